"""A CoOp-style trainer, a semi-supervised one, and a dataset, against Dassl's documented API alone."""

import os.path as osp

import torch
from torch import nn
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, listdir_nohidden, load_checkpoint, load_pretrained_weights


@DATASET_REGISTRY.register()
class Stripes(DatasetBase):
    dataset_dir = "stripes"

    def __init__(self, cfg):
        root = osp.join(osp.abspath(osp.expanduser(cfg.DATASET.ROOT)), self.dataset_dir)
        train, val, test = [], [], []
        for label, name in enumerate(sorted(listdir_nohidden(root))):
            folder = osp.join(root, name)
            for number, file in enumerate(sorted(listdir_nohidden(folder))):
                part = (train, train, val, test)[number % 4]
                part.append(Datum(impath=osp.join(folder, file), label=label, classname=name))
        few = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
        super().__init__(train_x=few, train_u=train, val=val, test=test)


class PromptedModel(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.prompt_learner = nn.Linear(3, num_classes)
        self.image_encoder = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.frozen = nn.Linear(3, 3)

    def forward(self, image):
        return self.prompt_learner(self.frozen(self.image_encoder(image)))


@TRAINER_REGISTRY.register()
class ThirdPartyCoOp(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.THIRDPARTY.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        self.model = PromptedModel(len(self.dm.dataset.classnames))
        for name, param in self.model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.scaler = GradScaler() if cfg.TRAINER.THIRDPARTY.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        if self.scaler is not None:
            with autocast():
                output = self.model(image)
                loss = F.cross_entropy(output, label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            output = self.model(image)
            loss = F.cross_entropy(output, label)
            self.model_backward_and_update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        model_file = "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch)
        for name in self.get_model_names():
            model_path = osp.join(directory, name, model_file)
            if not osp.exists(model_path):
                raise FileNotFoundError(f'Model not found at "{model_path}"')
            checkpoint = load_checkpoint(model_path)
            self._models[name].load_state_dict(checkpoint["state_dict"], strict=False)


@TRAINER_REGISTRY.register()
class ThirdPartySemi(TrainerXU):
    def forward_backward(self, batch_x, batch_u):
        input_x, label_x, input_u = self.parse_batch_train(batch_x, batch_u)
        output_x, output_u = self.model(input_x), self.model(input_u).softmax(dim=1)
        entropy = -(output_u * torch.log(output_u + 1e-5)).sum(dim=1).mean()
        loss = F.cross_entropy(output_x, label_x) + 0.1 * entropy
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss_x": loss.item(), "entropy": entropy.item()}
