"use strict";
const [search, right, kind] = ["search", "right", "class"].map((name) => document.getElementById(name));
const cases = [...document.querySelectorAll("#cases > li")];

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of cases) {
    const text = one.textContent.toLowerCase();
    one.hidden = !words.every((word) => text.includes(word)) || (right.value && one.dataset.right !== right.value)
      || (kind.value && one.dataset.class !== kind.value);
  }
  document.getElementById("count").textContent = `${cases.filter((one) => !one.hidden).length} of ${cases.length} images`;
}

search.addEventListener("input", filter);
right.addEventListener("change", filter);
kind.addEventListener("change", filter);
filter();
