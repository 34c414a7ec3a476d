"""Which use case does which kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from smi_desktop.services import cleanup, delivery, emails, payments, refunds, upscaling
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Outcome, TaskKind
from smi_desktop.store.tasks import Claim

Handler = Callable[[Shop, Claim], Outcome]

HANDLERS: Final[Mapping[TaskKind, Handler]] = {
    TaskKind.APPLY_EVENT: payments.apply_event,
    TaskKind.SETTLE_ORDER: payments.settle_order,
    TaskKind.SUBMIT_UPSCALE: upscaling.submit_upscale,
    TaskKind.WATCH_UPSCALE: upscaling.watch_upscale,
    TaskKind.COLLECT_RESULT: delivery.collect_result,
    TaskKind.UPSCALE_HERE: delivery.upscale_here,
    TaskKind.SEND_MAIL: emails.send_mail,
    TaskKind.REMOVE_FILE: cleanup.remove_file,
    TaskKind.SEND_REFUND: refunds.send_refund,
    TaskKind.TAKE_MONEY: payments.take_money,
}
