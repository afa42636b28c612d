"""Words of a request that tell nothing about the tool it needs, in English and Chinese.

Rarity does not find them: hardly a card says "I would like", so in a catalogue of cards these words are rare.
"""

from __future__ import annotations

import re

STOP_WORDS = frozenset(re.findall(r"\w+", """
    a an the i me my mine we us our you your he she it its they them their this that these those is are was were be been
    being am do does did have has had having can could will would shall should may might must and or but if then so as
    of at by for with about against between into to from in on off out up down over under again there here when where
    why how what which who whom whose all any some no not only just than too very please help want need like let know
    would im ive id ill hi hello hey thank something anything 请 帮 我 你 您 想 要 一下 下 的 了 吗 呢 吧 啊 是 在 有 和
    与 或 把 被 给 为 能 可以 可 以 能否 怎么 怎 么 什么 什 哪 些 哪些 这 那 这个 那个 个 一 帮我 我想 想要 需要 请问 问
    麻烦 帮忙 看看 我的 就 都 也 还 从 到 对 让 用 于 它 他 她 们 我们 一个
"""))  # fmt: skip
