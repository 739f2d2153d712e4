# The one image of Postroom: `postroom operator|worker|migrate|gateway|sandbox`, by argument.
#
#     docker build -t postroom:0.1.0 .
#
# Every package comes from uv.lock, by hash; uv itself is pinned and stays in the build stage. pip fetches
# them, so that the builder's pip configuration (an index, a proxy, an authority) is respected. Build with a
# base by digest for a release: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:…

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
# the date that files in the wheel and in the image carry, so that the same tree gives the same bytes
ARG SOURCE_DATE_EPOCH=1764547200
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN pip install "uv==${UV_VERSION}" && python -m venv --without-pip /opt/postroom
WORKDIR /src

# What Postroom needs changes rarely: a layer of its own.
COPY pyproject.toml uv.lock ./
RUN uv export --frozen --no-dev --extra operator --no-emit-project --output-file runtime.txt >/dev/null \
 && uv export --frozen --only-group build --no-emit-project --output-file build.txt >/dev/null \
 && pip --python /opt/postroom/bin/python install --no-compile --no-deps --require-hashes -r runtime.txt \
 && pip install --require-hashes -r build.txt

COPY README.md LICENSE ./
COPY operator operator
COPY worker worker
COPY manifests/examples manifests/examples
# Bytecode is compiled here, checked by nothing at start: the image's file system is read-only. Left out is what
# nothing imports: tests, and the Kubernetes client's second, asynchronous copy (68 MB).
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/postroom/bin/python install --no-compile --no-deps dist/*.whl \
 && rm -rf /opt/postroom/lib/python3*/site-packages/kubernetes/aio \
 && find /opt/postroom -type d \( -name tests -o -name test \) -path '*/site-packages/*' -prune -exec rm -r {} + \
 && /opt/postroom/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/postroom/lib \
 && find /opt/postroom -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="postroom" \
      org.opencontainers.image.description="E-mail platform for Kubernetes: operator, worker, gateway and sandbox" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The Postroom authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/postroom /opt/postroom
# USER, since neither this user id nor one that a platform assigns is in /etc/passwd
ENV PATH=/opt/postroom/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=postroom
USER 65532:65532
EXPOSE 8080 9464 1025 8025
# Kubernetes has probes of its own and ignores this one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-m", "postroom.healthcheck"]
ENTRYPOINT ["postroom"]
CMD ["--help"]
