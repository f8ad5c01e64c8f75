"""Les noms d'hôte et les origines que l'on tape (`hosts=`, `cors=`), tels qu'un navigateur les envoie."""

import ipaddress
import re
from urllib.parse import urlsplit

from gpt_lightning.errors import UserError

SCHEMES = ("http", "https")
PORTS = {"http": 80, "https": 443}  # ceux qu'un navigateur n'écrit pas


def hostname(host: str) -> str:
    """Le nom d'un en-tête Host, sans son port, ses crochets ni son point final."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def read_host(text: str) -> str:
    """Le nom d'hôte que `text` donne, sans schéma ni port : « Machine.local:8765 » -> « machine.local ».

    UserError si aucun en-tête Host ne peut être ce nom.
    """
    try:
        return _parts(text if "://" in text else f"//{_with_brackets(text.strip())}")[1]
    except ValueError:
        every = " ; sans hosts=, tous sont acceptés si host= ouvre le réseau" if "*" in text else ""
        raise UserError(
            f"hosts={text} : il faut le nom de chaque machine, hosts=[machine.local]{every}."
        ) from None


def read_origin(text: str) -> str:
    """L'origine que `text` donne : « https://Exemple.fr:443/ » -> « https://exemple.fr ».

    UserError si aucun en-tête Origin ne peut être celle-là : sans schéma, ou avec un chemin.
    """
    try:
        return _origin(text)
    except ValueError:
        scheme, _, rest = text.strip().rpartition("://")
    try:
        likely = _origin(f"{scheme or 'https'}://{rest.split('/')[0]}")
    except ValueError:
        likely = "https://exemple.fr"
    raise UserError(f"cors={text} : il faut l'adresse de chaque site, sans chemin : cors=[{likely}].")


def _origin(text: str) -> str:
    scheme, host, port = _parts(text)
    if scheme not in SCHEMES:
        raise ValueError
    return f"{scheme}://{_with_brackets(host)}" + (f":{port}" if port not in (None, PORTS[scheme]) else "")


def _parts(text: str) -> tuple[str, str, int | None]:
    """Le schéma, l'hôte et le port d'une adresse sans chemin. ValueError si ce n'en est pas une."""
    parts = urlsplit(text.strip())
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError
    host = parts.hostname or ""
    if ":" in host:
        return parts.scheme, str(ipaddress.IPv6Address(host)), parts.port
    host = host.rstrip(".").encode("idna").decode()
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", host):
        raise ValueError
    return parts.scheme, host, parts.port


def _with_brackets(host: str) -> str:
    """Un hôte tel qu'une adresse l'écrit : entre crochets, s'il est de l'IPv6."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
