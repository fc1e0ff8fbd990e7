"""Generated parts of documents, and the table of models in Chinese."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError

_BEGIN = "<!-- {name}: made by `python3 tools/dev.py {name}` -->"
_END = "<!-- end of {name} -->"
# Longer ones first: each is replaced wherever it stands in the table.
_CHINESE = {
    "| model | one run | settings | gated attentions, self + cross | tested | MACs, T | saved | saved, in full "
    "| why not more |": (
        "| 模型 | 一次采样 | 设置 | 门控的注意力（自 + 交叉） | 测试 | MACs（T） | 节省 | 节省（完整计算） "
        "| 为什么没有更多 |"
    ),
    "| model | one run | joint attentions | as | left out of a step |": (
        "| 模型 | 一次采样 | 联合注意力 | 形式 | 一步省去 |"
    ),
    "| modules |": "| 模块 |",
    "| within blocks |": "| 块内 |",
    "| guidance alone |": "| 只有引导 |",
    "| inline joint attention |": "| 块内的联合注意力 |",
    "| joint attention |": "| 联合注意力 |",
    "joint attention: nothing to freeze": "联合注意力，没有可以冻结的部分",
    "T-GATE leaves the attention of this network alone: nothing to freeze": "T-GATE 不处理这个网络的注意力",
    "cfg is 1: no second pass to save": "cfg 为 1，没有第二次计算可省",
    "each of two experts, ": "两个专家各自，",
    " tokens, ": " 个标记，",
    "| published |": "| 论文 |",
    "| experimental |": "| 实验性 |",
    "| parity, contract |": "| 对照、契约 |",
    "| contract |": "| 契约 |",
    " frames, ": " 帧，",
    " steps, cfg": " 步，cfg",
    " s, ": " 秒，",
    ", ": "，",
}


def section(text: str, name: str) -> str:
    """What stands between the marks of a generated part.

    Raises:
        UserError: the marks are not there.
    """
    return _split(text, name)[1].strip()


def replace_section(file: Path, name: str, content: str) -> None:
    """Put new content between the marks of a generated part.

    Raises:
        UserError: the marks are not there.
    """
    before, _, after = _split(file.read_text(encoding="utf-8"), name)
    file.write_text(f"{before}\n\n{content.strip()}\n\n{after}", encoding="utf-8")


def chinese_table(table: str) -> str:
    """The table of models that `python3 tools/dev.py support` prints, with its words in Chinese."""
    for english, chinese in _CHINESE.items():
        table = table.replace(english, chinese)
    return table


def _split(text: str, name: str) -> tuple[str, str, str]:
    """What stands up to the first mark, between the marks, and from the last on."""
    first, last = _BEGIN.format(name=name), _END.format(name=name)
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise UserError(f"The document needs the lines `{first}` and `{last}`, in this order: put them back.")
    begin, end = text.index(first) + len(first), text.index(last)
    return text[:begin], text[begin:end], text[end:]
