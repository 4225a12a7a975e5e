"""Parts of the backbones by hand: visual prompt tokens in a sequence, a tokenizer's words, which backbone is handed out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from backbones import VisualPrompt, build_backbone, zero_vectors
from backbones.base import TEXTS_AT_ONCE
from backbones.deep_prompts import deep_text_prompts
from backbones.foreign import ForeignCodeError, check_folder, check_vocabulary, no_foreign_code
from backbones.vocabulary import unknown_words, vocabulary
from dassl.utils import UserError

B, N, W = 2, 6, 3


def sequence() -> torch.Tensor:
    """(B, N, W): every token is known by its number."""
    return torch.arange(1.0, N + 1)[None, :, None].expand(B, N, W) + 10 * torch.arange(B)[:, None, None]


# -- visual prompts ---------------------------------------------------------------------------------------


def test_prompts_that_do_something_else_are_described_otherwise() -> None:
    ones, twos = torch.ones(2, W), torch.full((2, W), 2.0)
    prompts = [VisualPrompt(tokens, placement, deep) for tokens in (ones, twos, 0 * ones, torch.zeros(3, W), ones[None])
               for placement in ("replace", "insert") for deep in (True, False)]  # fmt: skip
    assert len({prompt.describe() for prompt in prompts}) == len(prompts) == 20
    assert VisualPrompt(ones).describe() == VisualPrompt(torch.nn.Parameter(ones.clone())).describe()


def test_zero_vectors_are_none_where_there_are_none() -> None:
    assert zero_vectors(0, W) is None
    prompt = zero_vectors(4, W, "insert", deep=False)
    assert (prompt.num_tokens, prompt.placement, prompt.deep) == (4, "insert", False) and not prompt.tokens.any()


@pytest.mark.parametrize("prefix", [1, 2])
def test_tokens_stand_behind_the_class_token(prefix: int) -> None:
    tokens = torch.full((2, W), -5.0)
    begun = VisualPrompt(tokens, "insert").start(sequence(), prefix)
    want = [1.0, 2.0][:prefix] + [-5.0, -5.0] + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][prefix:]
    assert begun[0, :, 0].tolist() == want
    replaced = VisualPrompt(tokens, "replace")
    assert torch.equal(replaced.start(sequence(), prefix), sequence())
    written = replaced.before_block(0, sequence(), prefix)
    assert written[0, :, 0].tolist() == [1.0, 2.0][:prefix] + [-5.0, -5.0] + [3.0, 4.0, 5.0, 6.0][prefix:]
    assert written[1, 0, 0] == 11.0


@pytest.mark.parametrize("prefix", [1, 2])
def test_as_many_tokens_as_patches_fit_and_no_more(prefix: int) -> None:
    patches = N - prefix
    assert VisualPrompt(torch.zeros(patches, W)).start(sequence(), prefix).shape == (B, N, W)
    with pytest.raises(UserError, match=f"cannot replace {patches} patches"):
        VisualPrompt(torch.zeros(patches + 1, W)).start(sequence(), prefix)


@pytest.mark.parametrize("deep", [True, False])
def test_which_blocks_see_which_tokens(deep: bool) -> None:
    same = VisualPrompt(torch.full((2, W), -1.0), deep=deep)
    own = VisualPrompt(torch.stack([torch.full((2, W), value) for value in (-1.0, -2.0, -3.0)]), deep=deep)
    assert same.num_tokens == own.num_tokens == 2
    seen = [[prompt.before_block(block, sequence())[0, 1, 0].item() for block in range(4)] for prompt in (same, own)]
    untouched = 2.0  # what the block before made of it
    assert seen[0] == ([-1.0] * 4 if deep else [-1.0, untouched, untouched, untouched])
    assert seen[1] == ([-1.0, -2.0, -3.0, untouched] if deep else [-1.0, untouched, untouched, untouched])


def test_deep_text_prompts_leave_the_first_position_and_need_room() -> None:
    seen: list[torch.Tensor] = []

    class Layer(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            seen.append(hidden)
            return hidden

    layers = [Layer(), Layer()]
    with deep_text_prompts(layers, torch.full((1, N - 1, W), -1.0)):
        for layer in layers:
            layer(sequence())
    assert torch.equal(seen[0], sequence()) and seen[1][0, :, 0].tolist() == [1.0] + [-1.0] * (N - 1)
    with deep_text_prompts(layers, torch.zeros(1, N, W)), pytest.raises(ValueError, match=f"{N} deep prompts do not fit"):
        layers[1](sequence())
    with pytest.raises(ValueError, match="2 deep prompts need 3 text layers"), deep_text_prompts(layers, torch.zeros(2, 1, W)):
        pass


# -- words ------------------------------------------------------------------------------------------------


class Words:
    """A tokenizer of whole words."""

    all_special_ids, unk_token_id = (0, 1), 2

    def __init__(self, words: tuple[str, ...] = ("[PAD]", "[CLS]", "[UNK]", "[unused1]", "brain", "tumor")) -> None:
        self.words = {word: index for index, word in enumerate(words)}

    def get_vocab(self) -> dict[str, int]:
        return self.words

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [self.words.get(word, 2) for word in text.split()]}


def backbone_of(tokenizer: object, rows: int = 99) -> SimpleNamespace:
    embeddings = SimpleNamespace(weight=torch.zeros(rows, 1))
    return SimpleNamespace(tokenizer=SimpleNamespace(tokenizer=tokenizer), name="toy", word_embeddings=embeddings)


def test_words_are_those_that_a_text_can_have() -> None:
    assert vocabulary(backbone_of(Words())) == {2: "[UNK]", 4: "brain", 5: "tumor"}
    assert unknown_words(backbone_of(Words()), "brain glioma tumor") == ["glioma"]


@pytest.mark.parametrize(
    "count, rows, said", [(60, 62, ""), (60, 61, "another model's"), (49, 99, "has 49 words"), (50, 99, "")]
)
def test_a_vocabulary_must_be_one_and_fit_the_embeddings(count: int, rows: int, said: str) -> None:
    backbone = backbone_of(Words(("[PAD]", "[CLS]", *(f"word{number}" for number in range(count)))), rows)
    if not said:
        check_vocabulary(backbone, "here")
    else:
        with pytest.raises(UserError, match=said):
            check_vocabulary(backbone, "here")


# -- nothing foreign is run -------------------------------------------------------------------------------


ASKS = [
    ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
    ({"a": [{"b": 1}, {"trust_remote_code": True}]}, "a.trust_remote_code"),
    ({"a": {"custom_pipelines": {"x": 1}}}, "a.custom_pipelines"),
    ({"text_cfg": {"tokenizer_kwargs": {"use_fast": True, "code": "x"}}}, "text_cfg.tokenizer_kwargs.code"),
]


@pytest.mark.parametrize("content, key", ASKS)
def test_a_key_that_asks_for_code_is_found_wherever_it_stands(content: dict, key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ForeignCodeError, match=key.replace(".", r"\.")):
        check_folder(tmp_path)
    harmless = {"auto_map": None, "trust_remote_code": False, "tokenizer_kwargs": {"use_fast": True}}
    (tmp_path / "config.json").write_text(json.dumps(harmless))
    check_folder(tmp_path)


def test_the_library_is_never_told_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers
    from transformers import dynamic_module_utils

    told = []
    for name in ("AutoConfig", "AutoModel", "AutoTokenizer"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", lambda *_, **more: told.append(more))
    with no_foreign_code():
        for name in ("AutoConfig", "AutoModel", "AutoTokenizer"):
            getattr(transformers, name).from_pretrained("x", trust_remote_code=True)
        for name in ("get_cached_module_file", "get_class_in_module"):
            with pytest.raises(ForeignCodeError, match="never run"):
                getattr(dynamic_module_utils, name)("Model", "code.py")
    assert told == [{"trust_remote_code": False}] * 3


# -- which backbone is handed out -------------------------------------------------------------------------


def test_another_folder_or_name_is_another_backbone(tiny_biomedclip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_biomedclip, other)
    one = build_backbone("BiomedCLIP", str(tiny_biomedclip))
    assert build_backbone("BiomedCLIP", str(tiny_biomedclip)) is one
    named = build_backbone(f"local-dir:{other}", str(tiny_biomedclip))
    assert named is not one and named.name != one.name
    assert build_backbone("BiomedCLIP", str(other)) is not build_backbone("BiomedCLIP", str(tiny_biomedclip))


def test_a_built_backbone_is_frozen_and_moves_no_random_stream(tiny_biomedclip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_biomedclip, other)
    state = torch.get_rng_state()
    backbone = build_backbone("BiomedCLIP", str(other), pretrained=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    texts = ["a photo of a tumor" + " of the brain" * (number % 7) for number in range(TEXTS_AT_ONCE + 5)]
    with torch.no_grad():
        together = backbone.encode_text(texts)
        for place in (0, 5, TEXTS_AT_ONCE + 1):
            torch.testing.assert_close(together[place], backbone.encode_text([texts[place]])[0], rtol=1e-4, atol=1e-5)


def test_a_folder_is_looked_through_before_and_its_words_after(tiny_biomedclip: Path, tmp_path: Path) -> None:
    evil, mute = tmp_path / "evil", tmp_path / "mute"
    shutil.copytree(tiny_biomedclip, evil)
    (evil / "extra.json").write_text('{"auto_map": {"AutoModel": "code.Model"}}')
    with pytest.raises(ForeignCodeError, match="auto_map"):
        build_backbone("BiomedCLIP", str(evil))
    shutil.copytree(tiny_biomedclip, mute)
    for name in ("tokenizer.json", "vocab.txt"):
        (mute / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="tokenizer"):
        build_backbone("BiomedCLIP", str(mute))
