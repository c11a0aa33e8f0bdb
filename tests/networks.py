"""Small models of every kind that a forward pass can be followed through."""

import torch
from torch import nn
from torch.nn import functional


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Sequential(nn.Linear(5, 4, bias=False), nn.Identity(), nn.Linear(4, 3, bias=False)),
    )


class FunctionalMlp(nn.Module):
    """No modules at all: a product and a sum, a method, a function, an einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 5))
        self.shift = nn.Parameter(torch.randn(5))
        self.second = nn.Parameter(torch.randn(4, 5))
        self.third = nn.Parameter(torch.randn(3, 4))
        self.register_buffer("fourth", torch.randn(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x @ self.first + self.shift).relu()
        x = functional.relu_(functional.linear(x, self.second))
        x = torch.einsum("bd,kd->bk", x, self.third)
        return torch.mm(x, self.get_buffer("fourth"))


class Block(nn.Module):
    """A residual block that uses one in-place ReLU twice."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        result: torch.Tensor = self.relu(y)
        return result


class ResNet(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (4, 6), blocks: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        stages, inputs = [], widths[0]
        for i, outputs in enumerate(widths):
            first = Block(inputs, outputs, 2 if i else 1)
            stages.append(nn.Sequential(first, *(Block(outputs, outputs) for _ in range(blocks - 1))))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.relu(self.bn1(self.conv1(x))))
        result: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return result


class Encoder(nn.Module):
    """torch's own attention, of which only the packed call is visible from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(self.layer(x).mean(1))
        return result


class LeNet(nn.Module):
    """A map is flattened before the first dense layer reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc1 = nn.Linear(4 * 3 * 3, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(torch.tanh(self.conv(x)), 2)
        result: torch.Tensor = self.fc2(self.fc1(x.view(x.size(0), -1)).relu_())
        return result


class Mixer(nn.Module):
    """Dense layers along positions as well as along features, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.tokens = nn.Linear(5, 5)
        self.gate = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm(x).transpose(1, 2)).mT
        x = x * torch.sigmoid(self.gate(x.mean(dim=1)))[:, None]
        result: torch.Tensor = self.fc(x[:, 0])
        return result


class RewritesViews(nn.Module):
    """Writes into its input, through views, and into a part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.clamp_(min=-1)
        y = self.conv(x)
        self.relu(y.view(len(y), -1))
        z = self.conv2(y)
        z[:, :2].sigmoid_()
        result: torch.Tensor = self.fc(z.mean((2, 3)))
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y, (hidden, _) = self.lstm(x)
        return {"hidden": hidden, "logits": self.fc(y[:, -1])}


class RmsNorm(nn.Module):
    """A normalisation written out, as language models do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Conv1D(nn.Module):
    """The transposed dense layer of GPT-2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return rows.view(*x.shape[:-1], -1)


def small_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
    )
    config.num_labels = 3
    model: nn.Module = ViTForImageClassification(config)
    return model


def small_bert(attention: str = "sdpa") -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=20,
        max_position_embeddings=16,
    )
    config.num_labels = 3
    config._attn_implementation = attention
    model: nn.Module = BertForSequenceClassification(config)
    return model


def sentences() -> dict[str, torch.Tensor]:
    ids = torch.arange(24).reshape(4, 6) % 20
    mask = torch.tensor([[1] * kept + [0] * (6 - kept) for kept in (6, 4, 6, 3)])
    return {"input_ids": ids, "attention_mask": mask}


def language_model_parts() -> nn.Module:
    return nn.Sequential(RmsNorm(4), Conv1D(4, 5), nn.SiLU(), RmsNorm(5), nn.Flatten(), nn.Linear(25, 3))
