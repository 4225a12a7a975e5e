"""A prompt learner written against Dassl's documented API alone, in the form of the CoOp family's trainers.

The "CLIP" behind it is two small random networks, so that nothing has to be downloaded.
"""

import os.path as osp

import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

VOCABULARY, WIDTH, CONTEXT = 997, 32, 12


class ToyCLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.1)
        self.transformer = nn.TransformerEncoderLayer(WIDTH, nhead=4, dim_feedforward=64, dropout=0.1, batch_first=True)
        self.visual = nn.Sequential(nn.Conv2d(3, WIDTH, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.project = nn.Linear(4 * WIDTH, WIDTH)
        self.logit_scale = nn.Parameter(torch.tensor(4.0))

    def encode_image(self, image):
        return self.project(self.visual(image))


def tokenize(texts):
    tokens = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        words = text.replace(".", " .").split()[: CONTEXT - 2]
        row[: len(words) + 2] = torch.tensor([1] + [3 + sum(map(ord, word)) % (VOCABULARY - 3) for word in words] + [2])
    return tokens


def load_clip_to_cpu(cfg):
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = ToyCLIP()
    torch.set_rng_state(state)
    return model.eval()


class TextEncoder(nn.Module):
    def __init__(self, clip_model):
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding

    def forward(self, prompts, tokenized_prompts):
        x = self.transformer(prompts + self.positional_embedding)
        # the feature of the last word, whose token has the number 2
        return x[torch.arange(x.shape[0]), (tokenized_prompts == 2).int().argmax(dim=-1)]


class PromptLearner(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        n_cls, n_ctx = len(classnames), cfg.TRAINER.COOP.N_CTX
        shape = (n_cls, n_ctx, WIDTH) if cfg.TRAINER.COOP.CSC else (n_ctx, WIDTH)
        ctx_vectors = torch.empty(*shape)
        nn.init.normal_(ctx_vectors, std=0.02)
        self.ctx = nn.Parameter(ctx_vectors)

        prompts = [" ".join(["X"] * n_ctx) + " " + name.replace("_", " ") + "." for name in classnames]
        self.tokenized_prompts = tokenize(prompts)
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized_prompts)
        # of these class names only: saved with the context, left behind when it is loaded for other classes
        self.register_buffer("token_prefix", embedding[:, :1, :])
        self.register_buffer("token_suffix", embedding[:, 1 + n_ctx :, :])
        self.n_cls = n_cls

    def forward(self):
        ctx = self.ctx.unsqueeze(0).expand(self.n_cls, -1, -1) if self.ctx.dim() == 2 else self.ctx
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)


class CustomCLIP(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.tokenized_prompts = self.prompt_learner.tokenized_prompts
        self.image_encoder = clip_model.encode_image
        self.visual, self.project = clip_model.visual, clip_model.project
        self.text_encoder = TextEncoder(clip_model)
        self.logit_scale = clip_model.logit_scale

    def forward(self, image):
        image_features = self.image_encoder(image)
        text_features = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        text_features = text_features / text_features.norm(dim=-1, keepdim=True)
        return self.logit_scale.exp() * image_features @ text_features.t()


@TRAINER_REGISTRY.register()
class ThirdPartyCoOp(TrainerX):
    """Learns the context of the class prompts with everything else frozen."""

    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.PREC in ("fp16", "fp32", "amp")

    def build_model(self):
        cfg = self.cfg
        self.model = CustomCLIP(cfg, self.dm.dataset.classnames, load_clip_to_cpu(cfg))
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("prompt_learner" in name)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)

        learner = self.model.prompt_learner
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        self.scaler = GradScaler() if cfg.TRAINER.COOP.PREC == "amp" else None
        if torch.cuda.device_count() > 1:
            self.model = nn.DataParallel(self.model)

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        if self.cfg.TRAINER.COOP.PREC == "amp":
            with autocast():
                scores = self.model(images)
                loss = F.cross_entropy(scores, labels)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            scores = self.model(images)
            loss = F.cross_entropy(scores, labels)
            self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(scores, labels)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            print("no folder given: nothing is loaded")
            return
        file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = osp.join(directory, name, file)
            if not osp.exists(path):
                raise FileNotFoundError(path)
            checkpoint = load_checkpoint(path)
            weights = checkpoint["state_dict"]
            for fixed in ("token_prefix", "token_suffix"):
                weights.pop(fixed, None)
            print(f"{name} from {path}, epoch {checkpoint['epoch']}")
            self._models[name].load_state_dict(weights, strict=False)
