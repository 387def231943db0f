"""The local CA's certificate, for a phone that is to trust this server (`TLS=1`)."""

from __future__ import annotations

from fastapi import Response

from api.deps import ServicesDep
from api.local_ca import ca_der
from api.routing import make_router
from geo.errors import NotFound

router = make_router("service")


@router.get("/ca.crt", summary="The local CA's certificate, to be trusted by phones")
def ca_certificate(services: ServicesDep) -> Response:
    """404 without TLS=1. Compare its SHA-256 with the one printed where the server was started."""
    configuration = services.configuration
    try:
        if not configuration.server.tls:
            raise FileNotFoundError
        content = ca_der(configuration.paths.tls / "ca.crt")
    except (OSError, ValueError):
        raise NotFound("this server has no certificate authority of its own") from None
    headers = {"Content-Disposition": 'attachment; filename="yutu-ca.crt"'}
    return Response(content, media_type="application/x-x509-ca-cert", headers=headers)
