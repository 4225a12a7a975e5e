"""trainers/: what is minimised, what a checkpoint holds and gives back, and what is chosen on validation."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

UNIT = "tests/test_training_rules.py"
FORMULAS = "tests/test_formulas.py -k (biomed_dpt and middle and replace and published) or (test_coop and middle)"
FEATURE = "tests/test_feature_methods.py"
GDA = "tests/test_feature_methods.py -k gda"
TIP = "tests/test_feature_methods.py -k tip"
PROMPT = "tests/test_prompt_methods.py -k kgcoop or steps_along"

MUTANTS: list[Mutant] = [
    *of(
        "trainers/base.py",
        UNIT,
        ('best = self.cfg.TEST.FINAL_MODEL == "best_val"', "best = False"),
        ('best = self.cfg.TEST.FINAL_MODEL == "best_val"', "best = True"),
        ("if not math.isfinite(total):", "if math.isnan(total):"),
        ("self.check_finite()\n        super().after_epoch()", "super().after_epoch()\n        self.check_finite()"),
        (" < done and not (every > 0 and int(epoch) % every == 0):", " < done:"),
        (" < done and not (every > 0 and int(epoch) % every == 0):", " <= done and not (every > 0 and int(epoch) % every == 0):"),
        ("                path.unlink(missing_ok=True)\n", "                pass\n"),
        ("            self.save_model(self.epoch, self.output_dir)\n", "            pass\n"),
        ("self._losses = self._losses + loss.detach()", "self._losses = loss.detach()"),
        ("self._losses = self._losses + loss.detach()", "self._losses = self._losses + loss"),
        ("        take_over(getattr(self, LEARNER), stored, path, type(self).__name__)\n", ""),
        ("        self._text_features = None\n        log.info(\"loaded", "        log.info(\"loaded"),
        ("training and bool(self.own", "bool(self.own"),
        ('bool(self.own.get("TEXT_DROPOUT", False)))\n        self._text_features = None', 'bool(self.own.get("TEXT_DROPOUT", False)))'),
        ("if self.batch_idx + 1 == self.num_batches:", "if self.batch_idx == self.num_batches:"),
        ("        self.optim.zero_grad()\n", ""),
        ("own[key] != published[key]:\n", "own[key] == published[key]:\n"),
        ("for key, value in cls.released.items() if own[key] != value]", "for key, value in cls.released.items() if own[key] == value]"),
        ("self.logit_scale * features @ self", "features @ self"),
        ("if cfg.FEATURES.VIEWS < 0 or (cfg", "if (cfg"),
        ("self._text_features = unit(self.encode_classes())", "self._text_features = self.encode_classes()"),
    ),
    *of(
        "trainers/tip_adapter.py",
        (UNIT, TIP),
        ("correct[row] += count", "correct[row] = count"),
        ('"params": list(learner.parameters()), "eps": self.own.EPS}', '"params": list(learner.parameters())}'),
        ("torch.arange(1.0, self.own.INIT_ALPHA_SCALE,", "torch.arange(0.0, self.own.INIT_ALPHA_SCALE,"),
        ("torch.exp(-beta * (1 - affinity))", "torch.exp(beta * (1 - affinity))"),
        ("torch.arange(steps) * (scale - LEAST) / steps", "torch.arange(steps) * (scale - LEAST) / (steps - 1)"),
        ("beta, alpha = divmod(best, len(alphas))", "beta, alpha = divmod(best, len(betas))"),
        ("mean(dim=0)))", "sum(dim=0)))", "unit() takes any factor out again"),
        ("for one in sets]).mean(dim=0)))", "for one in sets[:1]]).mean(dim=0)))"),
    ),
    *of(
        "trainers/maple.py",
        UNIT,
        ("std=INIT_STD) for", "std=50 * INIT_STD) for"),
        ("nn.init.normal_(torch.empty(self.n_ctx, widths[0]), std=INIT_STD)", "torch.zeros(self.n_ctx, widths[0])"),
        ("[copy.deepcopy(deeper[0]) for _ in deeper] if copies else deeper)", "[copy.deepcopy(deeper[0]) for _ in deeper])"),
    ),
    *of(
        "trainers/biomed_dpt.py",
        (UNIT, FORMULAS),
        ("visual[key] != published[key] for", "visual[key] == published[key] for"),
        ('[] if selection == "all" else', '[] if selection != "all" else'),
        ('name += f"_vis{visual.N_TOKENS}', 'name += f"_vis'),
        ("unit(unit(encoded).mean(dim=1))", "unit(unit(encoded).mean(dim=0))"),
        ("/ logits.numel()", "/ len(logits)"),
        ("F.kl_div(log_p, log_z,", "F.kl_div(log_z, log_p,"),
        ("self.own.L1_LAMBDA * F.l1_loss(", "self.own.L1_LAMBDA * F.mse_loss("),
        ("self.own.KL_LAMBDA * distillation(z, logits)", "distillation(z, logits)"),
    ),
    *of(
        "trainers/prompt_learner.py",
        (UNIT, FORMULAS),
        ("if n_ctx < 1 or shortest", "if n_ctx < 0 or shortest"),
        ("shortest < n_ctx + 2:", "shortest < n_ctx + 1:"),
        ("words = backbone.tokenize([spelled(ctx_init)])", "words = backbone.tokenize([ctx_init])"),
        ("if pieces < self.n_ctx:", "if pieces + 1 < self.n_ctx:"),
        ("[0, 1 : 1 + self.n_ctx]", "[0, : self.n_ctx]"),
        ("template.format(spelled(name))", "template.format(name)"),
        ("name_token_len(spelled(name), name_len)", "name_token_len(spelled(name))"),
        ('self.n_ctx // 2 if self.position == "middle" else 0', "self.n_ctx // 2"),
        ("std=INIT_STD).to(", "std=1.0).to("),
    ),
    *of(
        "trainers/checkpoints.py",
        UNIT,
        ("return saved[max(saved)]", "return saved[min(saved)]"),
        ("if epoch is None and best and", "if best and"),
        ("if epoch is None and saved:", "if saved:"),
        ("if value.shape != wanted[name].shape:", "if value.ndim != wanted[name].ndim:"),
        ("    if missing:\n", "    if missing and not released:\n"),
        ('.removeprefix(f"{LEARNER}.")', ""),
    ),
    *of(
        "trainers/feature_trainer.py",
        (UNIT, GDA),
        ("self.store.views(epoch) for epoch", "self.store.views(0) for epoch"),
        ("unit(torch.cat([one.features for one in sets]).to(self.device))", "torch.cat([one.features for one in sets]).to(self.device)"),
        ("(logits.argmax(dim=-1) == labels).sum(dim=-1)", "(logits.argmax(dim=-1) == labels).sum()"),
        ("logits = self.scores(unit(images))", "logits = self.scores(images)"),
    ),
    *of(
        "trainers/gda.py",
        GDA,
        ("(weight * means).sum(dim=1) / 2", "(weight * means).sum(dim=1)"),
        ("precision_matrix(v - means[labels])", "precision_matrix(v - v.mean(dim=0))"),
        ("(count - 1) * covariance + ridge", "count * covariance + ridge"),
        ("(self.own.SCALE or self.logit_scale)", "self.logit_scale"),
    ),
    *of(
        "trainers/kgcoop.py",
        PROMPT,
        ("self.own.W * (1 - F.cos", "self.own.W * (1 + F.cos"),
        ('"kg": self.own.W * (', '"kg": ('),
    ),
    *of(
        "trainers/prograd.py",
        PROMPT,
        ("project(g_ce, g_kl, self.own.LAMBDA)", "project(g_kl, g_ce, self.own.LAMBDA)"),
        ("project(g_ce, g_kl, self.own.LAMBDA)", "g_ce"),
    ),
]  # fmt: skip
