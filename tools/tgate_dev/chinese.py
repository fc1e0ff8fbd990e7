"""The table of supported models in Chinese: the same rows and figures under Chinese words."""

from __future__ import annotations

# Longer ones first: each is replaced wherever it stands in the table.
_WORDS = (
    (
        "| model | one run | settings | gated attentions, self + cross | tested | MACs, T | saved | saved, in full |",
        "| 模型 | 一次采样 | 设置 | 门控的注意力（自 + 交叉） | 测试 | MACs（T） | 节省 | 节省（完整计算） |",
    ),
    ("| published |", "| 论文 |"),
    ("| experimental |", "| 实验性 |"),
    ("| parity, contract |", "| 对照、契约 |"),
    ("| contract |", "| 契约 |"),
    (" frames, ", " 帧，"),
    (" steps |", " 步 |"),
    (" s, ", " 秒，"),
    (", ", "，"),
)


def chinese_table(table: str) -> str:
    """The table of supported models with its words in Chinese.

    Args:
        table: as `python3 tools/dev.py support` prints it.
    """
    for english, chinese in _WORDS:
        table = table.replace(english, chinese)
    return table
