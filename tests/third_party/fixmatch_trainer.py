"""A semi-supervised trainer on SimpleNet and a backbone of its own, written against Dassl's documented API alone."""

import torch
import torch.nn as nn
from torch.nn import functional as F

from dassl.data import DataManager
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerXU
from dassl.metrics import compute_accuracy
from dassl.modeling import BACKBONE_REGISTRY, Backbone


class TinyCNN(Backbone):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self._out_features = 16

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.pool(F.relu(self.conv2(x))).flatten(1)


@BACKBONE_REGISTRY.register()
def third_party_cnn(pretrained=True, **kwargs):
    assert not pretrained, "there are no weights to download"
    return TinyCNN()


@TRAINER_REGISTRY.register()
class ThirdPartyFixMatch(TrainerXU):
    """Cross-entropy on labelled images; on unlabelled ones, the confident label of a weakly augmented view is learned
    on a strongly augmented view."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.weight_u = cfg.TRAINER.FIXMATCH.WEIGHT_U
        self.conf_thre = cfg.TRAINER.FIXMATCH.CONF_THRE

    def check_cfg(self, cfg):
        assert len(cfg.TRAINER.FIXMATCH.STRONG_TRANSFORMS) > 0

    def build_data_loader(self):
        cfg = self.cfg
        weak = build_transform(cfg, is_train=True)
        strong = build_transform(cfg, is_train=True, choices=cfg.TRAINER.FIXMATCH.STRONG_TRANSFORMS)
        dm = DataManager(cfg, custom_tfm_train=[weak, strong])
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.lab2cname = dm.num_classes, dm.lab2cname

    def forward_backward(self, batch_x, batch_u):
        images, labels, weak, strong = self.parse_batch_train(batch_x, batch_u)
        scores = self.model(images)
        loss_x = F.cross_entropy(scores, labels)
        with torch.no_grad():
            confidence, guess = self.model(weak).softmax(1).max(1)
            sure = (confidence >= self.conf_thre).float()
        loss_u = (F.cross_entropy(self.model(strong), guess, reduction="none") * sure).mean()
        self.model_backward_and_update(loss_x + self.weight_u * loss_u)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        accuracy = compute_accuracy(scores, labels)[0].item()
        return {"loss_x": loss_x.item(), "acc_x": accuracy, "loss_u": loss_u.item(), "mask_u": sure.mean()}

    def parse_batch_train(self, batch_x, batch_u):
        images, labels, weak = super().parse_batch_train(batch_x, batch_u)
        return images, labels, weak, batch_u["img2"].to(self.device)
