"""Run by Debian's python3 with QGIS: loads collections of /ogc/ with an API key, prints JSON.

Arguments: URL of /ogc, API key, then names of collections.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from qgis.core import (  # type: ignore[import-not-found]
    Qgis,
    QgsApplication,
    QgsAuthMethodConfig,
    QgsFeatureRequest,
    QgsNetworkAccessManager,
    QgsRectangle,
    QgsVectorLayer,
)


def main() -> None:
    url, key, *names = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="qgis-")
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False, folder)  # noqa: F841 (must live as long)
    QgsApplication.initQgis()
    said: list[str] = []
    QgsApplication.messageLog().messageReceived.connect(lambda *words: said.append(str(words[0])))
    manager = QgsApplication.authManager()
    authcfg = ""
    if "APIHeader" in manager.authMethodsKeys():
        # as by hand: Authentication → API Header, X-API-Key
        manager.setMasterPassword("only for this test", True)
        config = QgsAuthMethodConfig("APIHeader")
        config.setName("yutu")
        config.setConfig("X-API-Key", key)
        assert manager.storeAuthenticationConfig(config)
        authcfg = f" authcfg={config.id()}"
    else:  # QGIS 3.22 of Debian 12 has no such method; its Python console has this
        QgsNetworkAccessManager.setRequestPreprocessor(
            lambda request: request.setRawHeader(b"X-API-Key", key.encode())
        )
    told = {"qgis": Qgis.QGIS_VERSION, "layers": {}}
    for name in names:
        uri = f"url='{url}' typename='{name}' pageSize='300'{authcfg}"
        layer = QgsVectorLayer(uri, name, "OAPIF")
        error = " ".join([layer.error().message(), *said]) if not layer.isValid() else ""
        features = list(layer.getFeatures()) if layer.isValid() else []
        box = QgsRectangle(106.5, 29.5, 106.6, 29.6)
        inside = list(layer.getFeatures(QgsFeatureRequest(box))) if layer.isValid() else []
        names_seen = [f["name"] for f in features[:1] if "name" in layer.fields().names()]
        told["layers"][name] = {
            "valid": layer.isValid(),
            "error": error,
            "features": len(features),
            "inside": len(inside),
            "crs": layer.crs().authid(),
            "fields": len(layer.fields()),
            "first": [str(one) for one in names_seen],
        }
    Path("/dev/stdout").write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
    os._exit(0)  # leaving QGIS's own way crashes in 3.22 once a Python callback was set


main()
