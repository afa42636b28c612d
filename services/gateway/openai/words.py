"""What waits for a person, for clients that know nothing of approvals: the plan in words, and what is replied to it.

A reply counts only for what its client was shown: the assistant's message before it must hold the very words in which the
plan is told now. So neither a model nor a document can put a link there that makes a "yes" mean something else.
"""

from __future__ import annotations

import re

from runtime.policy import may_approve
from schemas.commands import AskPerson, RequestApproval
from schemas.ids import RunId
from services.gateway.openai.ids import Named, mark_of
from services.gateway.openai.waiting import Waiting, Waits
from services.gateway.principal import Principal
from services.gateway.runs.asking import Language, approval_text, language_of, question_text, secret_of

_MARK = re.compile(r"/runs/(\d{6}-[0-9a-f]{32})#wait-([0-9a-f]{8})(?![0-9a-z])")
_WORDS: dict[Language, dict[str, str]] = {
    "en": {"or": "Or open {link}", "other": "This waits for somebody else to approve it: {link}",
           "secret": "This asks for a secret, which is not to be written here: {link}"},
    "zh": {"or": "或打开 {link}", "other": "需要其他人批准：{link}", "secret": "这里不应写下密码：{link}"},
}  # fmt: skip


def may_answer(waiting: Waiting, who: Principal) -> bool:
    """Whether this principal may say something to it."""
    asked = waiting.command
    if isinstance(asked, RequestApproval):
        return "approve" in who.rights and may_approve(asked, who.user)
    return secret_of(asked) is None


def told(waits: Waits, who: Principal, url: str) -> str:
    """All that waits for a person, in words. url: of the door."""
    return "\n\n".join(told_one(each, waits.run, who, url) for each in (*waits.approvals, *waits.questions))


def told_one(waiting: Waiting, run: RunId, who: Principal, url: str) -> str:
    """One approval or question. run: the one that the client began, in which or below which it waits."""
    request = waiting.state.request
    language = language_of(request.task if request else "")
    card, how = _card(waiting.command, waiting, language)
    words, link = _WORDS[language], link_of(url, run, waiting)
    if may_answer(waiting, who):
        last = f"{how} {words['or'].format(link=link)}"
    else:
        last = words["other" if isinstance(waiting.command, RequestApproval) else "secret"].format(link=link)
    return f"```text\n{card}\n```\n{last}"


def link_of(url: str, run: RunId, waiting: Waiting) -> str:
    """Where it may be answered in a browser; what names it in a client's next request."""
    return f"{url}/runs/{run}#wait-{mark_of(waiting.id)}"


def named_in(text: str) -> tuple[Named, ...]:
    """What a message says it waits for, by its links."""
    return tuple(dict.fromkeys(Named(RunId(run), mark) for run, mark in _MARK.findall(text)))


def was_shown(waiting: Waiting, run: RunId, who: Principal, url: str, text: str) -> bool:
    """Whether a message holds what is told of it, whatever became of its blanks."""
    return _squeezed(told_one(waiting, run, who, url)) in _squeezed(text)


def _card(asked: RequestApproval | AskPerson, waiting: Waiting, language: Language) -> tuple[str, str]:
    """The card and the line that says how to answer, of which a code block must not be closed from inside."""
    if isinstance(asked, RequestApproval):
        whole = approval_text(asked, waiting.state, language)
    else:
        whole = question_text(asked, language)
    card, _, how = whole.replace("```", "'''").rpartition("\n")
    return card, how


def _squeezed(text: str) -> str:
    return "".join(text.split())
