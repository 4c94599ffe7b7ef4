"""Makes the admission that the configuration asks for."""

from derpnode.config import AdmissionSection
from derpnode.server.admission.chain import Admission, Terms
from derpnode.server.admission.keyfile import KeyFile, Removed
from derpnode.server.admission.open import Open
from derpnode.server.admission.tailscaled import Tailscaled
from derpnode.server.admission.url import Url
from derpnode.server.admission.verdict import Source


def make_admission(
    settings: AdmissionSection, *, on_removed: Removed = lambda removed: None
) -> Admission:
    """Make the sources and the chain over them.

    Args:
        settings: Which, and their times.
        on_removed: See `KeyFile`.

    Raises:
        ConfigError: The key file cannot be used.
    """
    terms = Terms(
        allow_ttl=settings.allow_ttl,
        deny_ttl=settings.deny_ttl,
        grace=settings.grace,
        timeout=settings.timeout,
    )
    return Admission(_sources(settings, on_removed), terms)


def _sources(settings: AdmissionSection, on_removed: Removed) -> list[Source]:
    if settings.mode == "open":
        return [Open()]
    sources: list[Source] = []
    if settings.key_file is not None:
        sources.append(KeyFile(settings.key_file, on_removed=on_removed))
    sources += [Tailscaled(path) for path in settings.tailscaled]
    sources += [Url(url) for url in settings.urls]
    return sources
