"""What `--json` prints of `doctor` and `arms`."""

from __future__ import annotations

import msgspec

from refusalctl.records.printed import Printed


class PrintedArm(Printed, frozen=True):
    """One system prompt of `arms`: the setting `system` (null: the template's own), its transfer, and the comparison of
    that with the first arm's, null for the first and for what is the same prompt."""

    arm: str
    system: str | None
    transfer: str
    comparison: str | None


class PrintedArms(Printed, frozen=True):
    """`arms`: every arm in the order in which it was asked for, and the report of all."""

    arms: tuple[PrintedArm, ...]
    report: str


class Checked(Printed, frozen=True):
    """One thing that `doctor` looked at."""

    ok: bool
    found: str


class PrecisionChecked(Printed, frozen=True):
    """`doctor --precision`: half precision or quantised weights against float32 on `n` prompts, KL in nats; `against`
    is the model in float32 where it is another one."""

    dtype: str
    against: str | None
    n: int
    kl_mean: float
    kl_max: float
    other_first_token: int
    stream_max: float
    direction_cosine_min: float


class PrintedDoctor(Printed, frozen=True):
    """`doctor`."""

    libraries: Checked
    data: Checked
    store: Checked
    cache: Checked
    model: Checked
    devices: Checked
    memory: Checked
    hub: Checked
    precision: PrecisionChecked | msgspec.UnsetType = msgspec.UNSET
