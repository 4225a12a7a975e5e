"""backbones/: the frozen towers' features, what is put into them, how two ways of encoding are told apart, what is refused."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

UNIT = "tests/test_backbone_parts.py"  # without a tower
BACKBONES = "tests/test_backbones.py -k not biomed_dpt_trains"
POOLED, LINEAR, DEEP = "tests/test_pooled_only.py", "tests/test_cpu_linear.py", "tests/test_deep_prompts.py"
FOREIGN = (UNIT, "tests/test_foreign_code.py")
FORMULAS = "tests/test_formulas.py -k test_cocoop or (biomed_dpt and middle)"

MUTANTS: list[Mutant] = [
    *of(
        "backbones/low_rank.py",
        "tests/test_clip_lora.py -k adapted_towers",
        ("    backbone.fingerprint()  # of", "    # of"),
        ("{id(one): one for one in same}", "{}"),
        ("self.q, self.k, self.v = _thirds(fused.weight, fused.bias)", "self.q, self.v, self.k = _thirds(fused.weight, fused.bias)"),
        ('block.__dict__.pop("forward", None)  # the short', "# the short"),
        ("use_rslora=True", "use_rslora=False"),
        ("F.scaled_dot_product_attention(q, k, v, attn_mask)", "F.scaled_dot_product_attention(q, k, v)"),
    ),
    *of(
        "backbones/visual_prompts.py",
        UNIT,
        ("{what} {self.placement} {'deep'", "{what} {'deep'"),
        ("{self.placement} {'deep' if self.deep else 'shallow'}", "{self.placement}"),
        ('f"{tuple(tokens.shape)} {what}', 'f"{what}'),
        ('"zeros" if not tokens.any() else', '"zeros" if tokens.numel() else'),
        ("return self.deep and (self.tokens.ndim == 2 or", "return (self.tokens.ndim == 2 or"),
        ("block < len(self.tokens))", "block <= len(self.tokens))"),
        ("end = num_prefix + self.num_tokens", "end = num_prefix + self.num_tokens - 1"),
        ("[sequence[:, :num_prefix], tokens, sequence[:, num_prefix:]]", "[tokens, sequence]"),
        ("if self.num_tokens > patches:", "if self.num_tokens >= patches:"),
        ("patches = sequence.shape[1] - num_prefix", "patches = sequence.shape[1]"),
        ("self.tokens if self.tokens.ndim == 2 else self.tokens[block]", "self.tokens if self.tokens.ndim == 2 else self.tokens[0]"),
        ("return self.tokens.shape[-2]", "return self.tokens.shape[0]"),
        ("torch.zeros(num_tokens, width), placement, deep)", "torch.zeros(num_tokens, width), placement)"),
    ),
    *of(
        "backbones/deep_prompts.py",
        (UNIT, DEEP),
        ("zip(layers[1:], prompts", "zip(layers, prompts"),
        ("if len(prompts) >= len(layers):", "if len(prompts) > len(layers):"),
        ("if count + 1 > hidden.shape[1]:", "if count > hidden.shape[1]:"),
        ("hidden[:, 1 + count :]", "hidden[:, count:]"),
        ("_overwritten(hidden.transpose(0, 1), vectors, True).transpose(0, 1)", "_overwritten(hidden, vectors, True)"),
    ),
    *of(
        "backbones/pooled_only.py",
        POOLED,
        ("split = len(weight) // 3", "split = len(weight) // 2"),
        ("x = x[:, :1] + block.ls1(", "x = block.ls1("),
        ("q = attention.q_norm(q.unf", "q = (q.unf"),
        ("if block.training or args", "if args"),
        ("mask = None if attention_mask is None else attention_mask[:, :, :1]", "mask = None"),
        ("v, mask, scale=attention.scaling)", "v, mask, scale=1.0)"),
        ('if trunk.global_pool != "token" or', "if"),
    ),
    *of(
        "backbones/cpu_linear.py",
        LINEAR,
        ("return linear(grad, weight.t()), None, None", "return 2 * linear(grad, weight.t()), None, None"),
        ("or weight.requires_grad\n", "or False\n"),
        ("or (bias is not None and bias.requires_grad)\n", ""),
        ("return product(x, weight, bias)\n\n    @", "return product(x, weight)\n\n    @"),
    ),
    *of(
        "backbones/foreign.py",
        FOREIGN,
        ('key in ("auto_map", "trust', 'key in ("trust'),
        ('"trust_remote_code", "custom_pipelines")', '"custom_pipelines")'),
        ('| {"trust_remote_code": False}', "| {}"),
        ("if unknown:\n", "if not unknown:\n"),
        ("if len(words) < FEWEST_WORDS:", "if len(words) < 0:"),
        ("if max(words) >= rows:", "if max(words) > rows:"),
        ('("get_cached_module_file", "get_class_in_module")', '()'),
        ("    if isinstance(content, list):\n        return next(filter(None, (_asks(value, above) for value in content)), \"\")\n", ""),
    ),
    *of(
        "backbones/vocabulary.py",
        UNIT,
        ("for word, index in inner.get_vocab().items() if index not in special}", "for word, index in inner.get_vocab().items()}"),
        ('if not word.startswith("[unused")}', "}"),
        ("if unknown in inner(word", "if unknown not in inner(word"),
        ("in inner(word, add_special_tokens=False)", "in inner(word, add_special_tokens=True)", "the unknown piece is none of the special ones that are added"),
    ),
    *of(
        "backbones/base.py",
        (UNIT, BACKBONES),
        ("return TokenBatch(ids[:, :length], mask[:, :length])", "return TokenBatch(ids[:, : length - 1], mask[:, : length - 1])"),
        ("[order.argsort().to(self.device)]", "[order.to(self.device)]"),
        ("return self.requires_grad_(False)", "return self"),
    ),
    *of(
        "backbones/open_clip_tower.py",
        (BACKBONES, FORMULAS),
        ("self.tokenize([classname]).mask.sum()) - 2", "self.tokenize([classname]).mask.sum()) - 1"),
        ("return text.proj(text.pooler(out, tokens.mask))", "return text.pooler(out, tokens.mask)"),
        ("attn_mask=causal))", "attn_mask=None))"),
        ("+ text.positional_embedding[:length]", "+ 0 * text.positional_embedding[:length]"),
        ("x = prompt.start(x, prefix)", "x = prompt.start(x, 0)"),
        ("(ids != self._text.config.pad_token_id).long()", "torch.ones_like(ids)"),
        ("return visual.head(trunk.forward_head(trunk.norm(x)))", "return visual.head(trunk.forward_head(x))"),
    ),
    *of(
        "backbones/__init__.py",
        UNIT,
        ("key = (name, path, pretrained, str(device))", "key = (name, \"\", pretrained, str(device))"),
        ("key = (name, path, pretrained, str(device))", "key = (\"\", path, pretrained, str(device))"),
        ("with scoped_seed(f\"{name} {path}\"), no_foreign_code():", "with no_foreign_code():"),
        ("        check_vocabulary(backbone, folder or name)\n", ""),
        ("            check_folder(Path(folder).expanduser())\n", "            pass\n"),
    ),
]  # fmt: skip
