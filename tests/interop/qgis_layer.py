"""Run by Debian's python3 with QGIS: loads collections of /ogc/ with an API key, prints JSON.

Arguments: URL of /ogc, API key, then names of collections.
"""

import json
import sys
import tempfile
from pathlib import Path

from qgis.core import (  # type: ignore[import-not-found]
    Qgis,
    QgsApplication,
    QgsAuthMethodConfig,
    QgsFeatureRequest,
    QgsRectangle,
    QgsVectorLayer,
)


def main() -> None:
    url, key, *names = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="qgis-")
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False, folder)
    QgsApplication.initQgis()
    manager = QgsApplication.authManager()
    manager.setMasterPassword("only for this test", True)
    # the same as in QGIS: Authentication → API Header, key X-API-Key
    config = QgsAuthMethodConfig("APIHeader")
    config.setName("yutu")
    config.setConfig("X-API-Key", key)
    assert manager.storeAuthenticationConfig(config), manager.authMethodsKeys()
    told = {"qgis": Qgis.QGIS_VERSION, "layers": {}}
    for name in names:
        uri = f"url='{url}' typename='{name}' authcfg={config.id()} pageSize='300'"
        layer = QgsVectorLayer(uri, name, "OAPIF")
        error = layer.error().message() if not layer.isValid() else ""
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
    application.exitQgis()


main()
