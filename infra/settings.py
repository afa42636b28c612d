"""What a person may set: flag, then environment (MILEPOST_*), then milepost.toml, then default; and who set what."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as MalformedVariable

from schemas.canonical import Json
from schemas.errors import MilepostError
from schemas.ids import Token

FILE = "milepost.toml"
PREFIX = "MILEPOST_"
MASK = "********"


class SettingsError(MilepostError):
    """A setting is unknown, malformed or of the wrong type. key: its dotted name; origin: where it was set."""

    def __init__(self, what: str, *, key: str, origin: Origin, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.key = key
        self.origin = origin


@dataclass(frozen=True, slots=True)
class Origin:
    """Who set a value; `where` names the flag, the variable or the file."""

    kind: Literal["flag", "environment", "file", "default"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".strip()


def _nats_url(value: str) -> str:
    if not re.match(r"^(nats|tls|ws|wss)://[^/\s]", value):
        raise ValueError("a NATS URL looks like nats://user:password@host:4222")
    return value


def _postgres_url(value: str) -> str:
    if not re.match(r"^postgres(ql)?(\+psycopg)?://", value):
        raise ValueError("a Postgres URL looks like postgresql://user:password@host/database")
    return value


def _archive(value: str) -> str:
    if re.match(r"^s3://[^/\s]", value) or Path(value).expanduser().is_absolute():
        return value
    raise ValueError("an archive is a folder with its whole path, or looks like s3://bucket/prefix")


def _http_url(value: str) -> str:
    if not re.match(r"^https?://[^/\s]", value):
        raise ValueError("an address looks like http://host:4318")
    return value


def _shared_models() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "milepost" / "models"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Nats(_Group):
    """The bus. Without a URL, Milepost runs its own."""

    url: Annotated[str, AfterValidator(_nats_url)] | None = Field(None, description="an external nats-server")
    monitor: str | None = Field(None, description="its HTTP monitor, to check that it fsyncs")
    sync_always: bool = Field(True, description="fsync before every acknowledgement; off only for benchmarks")


class Postgres(_Group):
    """The database. Without a URL, Milepost runs its own."""

    url: Annotated[str, AfterValidator(_postgres_url)] | None = Field(
        None, description="an external PostgreSQL, as the role that owns Milepost's tables"
    )
    service_url: Annotated[str, AfterValidator(_postgres_url)] | None = Field(
        None, description="the same, with a login of milepost_service; without it the owner changes into that role"
    )
    keeper_url: Annotated[str, AfterValidator(_postgres_url)] | None = Field(
        None, description="the same, with a login of milepost_keeper, which sees every tenant's rows"
    )


class Model(_Group):
    """The language model."""

    name: str = Field("qwen2.5-coder-0.5b-instruct", description="its name in the catalogue (milepost models ls)")
    home: Path = Field(default_factory=_shared_models, description="where model files are kept, shared by projects")
    folder: Path | None = Field(None, description="a folder of your own that is asked for model files before any hub")
    precision: Literal["auto", "int8", "int4", "fp32", "fp16", "bf16", "int4-fp16"] = Field(
        "auto", description="of the weights that are served; auto: what suits the model and the device"
    )
    provider: Literal["auto", "cpu", "cuda"] = Field("auto", description="what ONNX Runtime runs on")
    threads: PositiveInt | None = Field(None, description="threads of the model; all cores if not set")
    streams: PositiveInt | None = Field(None, description="requests that the model answers side by side; 4, on a GPU 64")
    context: PositiveInt = Field(4096, description="tokens that prompt and answer may have together")
    speculate: bool = Field(
        False, description="guess ahead from the prompt: faster where answers repeat it, see docs/models.md"
    )
    scripted: Path | None = Field(None, description="a file of prepared answers, in place of a model")
    offline: bool = Field(False, description="never ask a hub")


class Cloud(_Group):
    """The cloud whose servers the agent works on."""

    endpoint: str | None = Field(None, description="host or host:port; the region's own if not set")
    protocol: Literal["https", "http"] = "https"
    region: str = "cn-hangzhou"
    metadata: str | None = Field(
        None, description="what describes the cloud's APIs for imports over the door, a path or address"
    )
    access_key_id: str | None = None
    access_key_secret: SecretStr | None = None
    demo: bool = Field(True, description="a cloud of our own on loopback instead of a real one")
    demo_pace_s: float = Field(2.0, ge=0, description="how long starting and stopping take in the demo cloud")


class Aws(_Group):
    """AWS, where the agent works on servers there."""

    tools: bool = Field(False, description="offer the EC2 tools; on by itself where a key or an endpoint is set")
    region: str = "us-east-1"
    endpoint: str | None = Field(None, description="in place of every service's own, such as http://127.0.0.1:5000")
    access_key_id: str | None = Field(None, description="if not set, what boto3 finds: environment, profile, role")
    access_key_secret: SecretStr | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the EC2 tools are offered."""
        return self.tools or self.endpoint is not None or self.access_key_id is not None


class Keys(_Group):
    """How personal content is kept."""

    seal: bool = Field(True, description="seal what new runs say, under one data key a user")
    master: SecretStr | None = Field(None, description="wraps the data keys: 32 bytes in base64; in place of the file")
    file: Path | None = Field(None, description="where it stands; master.key of the data directory, made at the first start")


class Capability(_Group):
    """The rights to call tools that the conductor signs."""

    key: SecretStr | None = Field(None, description="signs them: an Ed25519 seed, 32 bytes in base64; in place of the file")
    file: Path | None = Field(
        None, description="where it stands; capability.key of the data directory, made at the first start"
    )
    keys: str | None = Field(
        None, description="public keys that hosts of tools trust, ID=BASE64,...; those of the data directory if not set, or"
        " else those that the conductor tells",
    )  # fmt: skip
    ttl_s: float = Field(900, ge=10, le=86_400, description="seconds that a right lasts")


class Receipts(_Group):
    """The receipts of runs that the recorder signs."""

    key: SecretStr | None = Field(None, description="signs them: an Ed25519 seed, 32 bytes in base64; in place of the file")
    file: Path | None = Field(
        None, description="where it stands; recorder.key of the data directory, made at the first start; recorder.pub beside it"
    )
    checkpoints: Path | None = Field(
        None, description="a folder for checkpoints, best on another disk; `receipts` of the data directory if not set"
    )
    every: PositiveInt = Field(1000, description="receipts after which a checkpoint is made")
    every_s: float = Field(600, gt=0, description="seconds after which one is made if there are new receipts")


class Archive(_Group):
    """Where closed segments of the log are kept before they may be dropped, and when to warn."""

    to: Annotated[str, AfterValidator(_archive)] | None = Field(None, description="a folder, or s3://BUCKET/PREFIX")
    endpoint: str | None = Field(None, description="of S3-compatible storage; that of AWS if not set")
    region: str = "us-east-1"
    addressing: Literal["auto", "path", "virtual"] = Field("auto", description="where the bucket's name stands in an address")
    access_key_id: str | None = Field(None, description="if not set, what boto3 finds: environment, profile, role")
    access_key_secret: SecretStr | None = None
    late_days: PositiveInt = Field(7, description="days after which a closed segment that is not archived is warned of")
    verify_days: PositiveInt = Field(90, description="days after which an archived segment should be verified again")
    full_percent: int = Field(80, ge=1, le=100, description="how full the log's storage, or its disk, may be without a warning")


class Door(_Group):
    """The HTTP door and the console."""

    host: str = Field("127.0.0.1", description="the address it listens on; another than loopback needs keys or an issuer")
    port: int | None = Field(None, ge=0, le=65_535, description="8642, or a free one if that is taken; 0: any free one")
    public_url: str | None = Field(None, description="how others reach it, for links; https://... behind a proxy")
    tls_cert: Path | None = Field(None, description="a certificate chain (PEM); with it the door speaks HTTPS")
    tls_key: Path | None = Field(None, description="its private key (PEM)")
    behind_proxy: bool = Field(False, description="a proxy on this machine or network speaks TLS with those outside")
    origins: str = Field("", description="web pages elsewhere that may call it, comma-separated (CORS)")
    local_key: bool = Field(True, description="whoever may read the data directory may come in, as an administrator")
    secret: SecretStr | None = Field(None, description="signs sessions: 32 bytes in base64; in place of the file door.key")
    body_mb: float = Field(4.0, gt=0, description="the largest request")
    file_mb: float = Field(64.0, gt=0, description="the largest with files in it")
    per_minute: PositiveInt = Field(600, description="requests a minute of one key, or of one unknown address")
    streams: PositiveInt = Field(64, description="event streams that one key may have open")


class Oidc(_Group):
    """An OpenID Connect provider whose bearer tokens the door takes."""

    issuer: str | None = Field(None, description="its address, as tokens say it in iss")
    audience: str = Field("milepost", description="what tokens say in aud")
    user_claim: str = Field("sub", description="the claim that names the user")
    tenant_claim: str = Field("", description="the claim that names the tenant; that of the settings if empty")
    roles_claim: str = Field("roles", description="the claim that holds roles or groups")
    roles: str = Field("", description="GROUP=ROLE,...: which group is which role; without it roles go by their names")


class Telemetry(_Group):
    """Traces of runs, by OpenTelemetry. Off unless `otlp_endpoint` or `on` is set: nothing leaves by itself."""

    on: bool = Field(False, description="send them where OTEL_EXPORTER_OTLP_* say, if otlp_endpoint does not")
    otlp_endpoint: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, description="where they go by OTLP over HTTP, such as http://127.0.0.1:4318; /v1/traces is put behind it"
    )
    otlp_headers: SecretStr | None = Field(None, description="NAME=VALUE,... sent with them, for one's own right to send")
    sample: float = Field(1.0, ge=0, le=1, description="the share of runs that is traced")
    content: bool = Field(False, description="with what people, models and tools said, too")

    @property
    def is_on(self) -> bool:
        """Whether anything is traced."""
        return self.on or self.otlp_endpoint is not None


class Services(_Group):
    """How many processes of each service `milepost up` starts."""

    conductor: NonNegativeInt = 1
    llm: NonNegativeInt = 1
    retrieval: NonNegativeInt = 1
    memory: NonNegativeInt = 1
    policy: NonNegativeInt = 1
    tools: NonNegativeInt = 1
    recorder: NonNegativeInt = 1
    gateway: NonNegativeInt = 1


class Settings(BaseSettings):
    """Everything that may be set. Made by `load`; frozen from then on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(Path(".milepost"), description="the data directory")
    tenant: Token = "default"
    user: Token = Field("me", description="in whose name you ask and approve")
    language: Literal["auto", "en", "zh"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    nats: Nats = Field(default_factory=Nats)
    postgres: Postgres = Field(default_factory=Postgres)
    model: Model = Field(default_factory=Model)
    cloud: Cloud = Field(default_factory=Cloud)
    aws: Aws = Field(default_factory=Aws)
    keys: Keys = Field(default_factory=Keys)
    capability: Capability = Field(default_factory=Capability)
    receipts: Receipts = Field(default_factory=Receipts)
    archive: Archive = Field(default_factory=Archive)
    services: Services = Field(default_factory=Services)
    door: Door = Field(default_factory=Door)
    oidc: Oidc = Field(default_factory=Oidc)
    telemetry: Telemetry = Field(default_factory=Telemetry)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` has merged all sources already."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, the origin of each (by dotted key) and the file that was read, if any."""

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None

    def rows(self) -> Iterator[tuple[str, Json, Origin]]:
        """Every setting as (dotted key, value with secrets masked, origin): what `milepost config` prints."""
        for key, value in _leaves(self.settings.model_dump()):
            yield key, _shown(value), self.origins.get(key, Origin("default"))

    def environment(self) -> dict[str, str]:
        """The variables that give another process these settings: all that are not defaults, secrets included."""
        variables = {}
        for key, value in _leaves(self.settings.model_dump()):
            if value is not None and (key in self.origins or key == "home"):
                plain = value.get_secret_value() if isinstance(value, SecretStr) else value
                variables[variable(key)] = str(plain).lower() if isinstance(plain, bool) else str(plain)
        return variables


def load(flags: Mapping[str, object] | None = None, *, directory: Path | None = None) -> Loaded:
    """Read the settings of a working directory (the current one by default).

    flags: dotted keys of what was given on the command line; None values were not given.
    Raises SettingsError, which names the key, its origin and what to change.
    """
    directory = (directory or Path.cwd()).resolve()
    file = find_file(directory)
    merged: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    for key, value in _leaves(_file_values(file)):
        _put(merged, key, value)
        origins[key] = Origin("file", str(file))
    for key, value in _leaves(_environment_values()):
        _put(merged, key, value)
        origins[key] = Origin("environment", variable(key))
    for key, value in (flags or {}).items():
        if value is not None:
            _put(merged, key, value)
            origins[key] = Origin("flag", "--" + key.replace(".", "-").replace("_", "-"))
    try:
        settings = Settings(**merged)  # type: ignore[arg-type]  # checked by the model itself
    except ValidationError as error:
        raise _refused(error, merged, origins) from None
    return Loaded(_absolute(settings, origins, directory, file), origins, file)


def find_file(directory: Path) -> Path | None:
    """The milepost.toml of this directory or of the nearest parent that has one."""
    for folder in (directory, *directory.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    return None


def variable(key: str) -> str:
    """The environment variable of a dotted key."""
    return PREFIX + key.replace(".", "_").upper()


def _file_values(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(
            f"{file} cannot be read.",
            key="",
            origin=Origin("file", str(file)),
            why=str(error),
            hint="mend it; strings stand in double quotes, groups begin with a line like [nats]",
        ) from error


def _environment_values() -> dict[str, object]:
    try:
        values: dict[str, object] = EnvSettingsSource(Settings)()
    except MalformedVariable as error:
        key = str(error).partition('field "')[2].partition('"')[0]
        origin = Origin("environment", variable(key))
        raise SettingsError(
            f"{origin.where} is a group of settings, not one value.",
            key=key,
            origin=origin,
            hint=f"unset it and set {origin.where}_... (milepost config lists them)",
        ) from error
    return values


def _put(values: dict[str, object], key: str, value: object) -> None:
    """Set a dotted key in nested dictionaries. A scalar where a group belongs is kept: the model refuses it by name."""
    group, _, rest = key.partition(".")
    inner = values.get(group)
    if not rest:
        values[group] = value
    elif isinstance(inner, dict) or inner is None:
        _put(values.setdefault(group, {}), rest, value)  # type: ignore[arg-type]  # a dict, as just seen
    else:
        values[group] = {rest: value}


def _leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _absolute(settings: Settings, origins: Mapping[str, Origin], directory: Path, file: Path | None) -> Settings:
    """A relative data directory is relative to the milepost.toml, unless a flag or a variable names it."""
    named = origins.get("home", Origin("default")).kind in ("flag", "environment")
    anchor = directory if named or file is None else file.parent
    return settings.model_copy(update={"home": (anchor / settings.home.expanduser()).resolve()})


def _shown(value: object) -> Json:
    if isinstance(value, SecretStr):
        return MASK
    if value is None or isinstance(value, bool | int | float):
        return value
    return re.sub(r"(://(?:[^:/@]*:)?)[^@/]+@", rf"\1{MASK}@", str(value))


def _refused(error: ValidationError, merged: Mapping[str, object], origins: Mapping[str, Origin]) -> SettingsError:
    """The first fault, in words; the value is shown unless it might be a secret."""
    fault = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in fault["loc"])
    origin = origins.get(key) or next((o for k, o in origins.items() if k.startswith(f"{key}.")), Origin("default"))
    if fault["type"] == "extra_forbidden":
        known = [known for known, _ in _leaves(Settings.model_construct().model_dump())]
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "milepost config lists every setting"
        return SettingsError(f"There is no setting {key} ({origin}).", key=key, origin=origin, hint=hint)
    why = fault["msg"].removeprefix("Value error, ")
    return SettingsError(
        f"The setting {key} has a wrong value ({origin}).", key=key, origin=origin, why=why, hint=_mend(key, origin)
    )


def _mend(key: str, origin: Origin) -> str:
    match origin.kind:
        case "file":
            return f"change {key} in {origin.where}"
        case "environment":
            return f"change or unset {origin.where}"
        case _:
            return f"change {origin.where or key}; milepost config shows every setting"
