#!/bin/sh
# After an installation into /opt/venv, as its image is built: lists what is there, and takes out what no server needs.
set -eu
if [ ! -e /opt/sbom ]; then
  python -m venv --without-pip /opt/sbom
  pip --python /opt/sbom/bin/python install --quiet cyclonedx-bom==7.5.0
fi
/opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/sbom.cdx.json /opt/venv/bin/python
# Tests, C headers and a C parser. h5py and NumPy import a part of their own tests.
cd "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
find . -path '*/tests/*' -type f ! -name '__init__.*' ! -path './h5py/*' ! -path '*/numpy/_core/tests/_natype*' -delete
find . -path '*/test/test_*.py' -delete
find . -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.a' -o -name '*.pyx' \) -delete
rm -rf tensorflow/include clang/native gitdb/test
