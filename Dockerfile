# One node of a relay region, for linux/amd64 and linux/arm64. Any builder will do, the
# one that Docker 20.10 has by default as well:
#     docker build -t derpmesh .
# All stages are of one base, as the virtual environment names the interpreter's path.
# Releases name it by its digest.
ARG BASE=python:3.11-slim-bookworm

# What the project needs, as locked.
FROM ${BASE} AS dependencies
COPY requirements/run.txt /build/requirements/
RUN python3 -m venv /opt/derpmesh && \
    /opt/derpmesh/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile \
        --require-hashes -r /build/requirements/run.txt

# The project itself; then everything leaves that a node does not need to run.
FROM dependencies AS project
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY node node
COPY mesh mesh
COPY ctl ctl
RUN /opt/derpmesh/bin/pip install --disable-pip-version-check --no-compile \
        --no-deps --no-index --no-build-isolation . && \
    /opt/derpmesh/bin/pip uninstall --yes --quiet \
        hatchling packaging pathspec pluggy setuptools tomlkit trove-classifiers pip && \
    rm -rf /opt/derpmesh/include /opt/derpmesh/share /opt/derpmesh/bin/[Aa]ctivate* && \
    find /opt/derpmesh -type d -name tests -prune -exec rm -rf {} + && \
    find /opt/derpmesh \( -name "*.pyx" -o -name "*.pxd" -o -name "*.[ch]" \) -delete && \
    python3 -m compileall -q -f --invalidation-mode unchecked-hash \
        -x "pygments/lexers/" /opt/derpmesh/lib

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="derpmesh" \
      org.opencontainers.image.description="A relay region for Tailscale and headscale networks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Below /root is what users of camllia/derper mount.
# A tmpfs takes the mode of the folder that it covers, and belongs to root: 1777 has it
# be of use to a node on a read-only root.
RUN groupadd --gid 65532 derpd && \
    useradd --uid 65532 --gid derpd --no-create-home --home-dir /var/lib/derpd \
        --no-log-init --shell /usr/sbin/nologin derpd && \
    install -d -o derpd -g derpd -m 0755 /etc/derpmesh && \
    install -d -o derpd -g derpd -m 1777 /run/derpd && \
    install -d -o derpd -g derpd -m 0700 /etc/derpmesh/keys /var/lib/derpd && \
    chmod 0711 /root
COPY --from=project /opt/derpmesh /opt/derpmesh
# The admin socket is not in the state's volume: a read-only root has a tmpfs for it.
ENV PATH=/opt/derpmesh/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DERPD_ADMIN__SOCKET=/run/derpd/admin.sock
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /var/lib/derpd
EXPOSE 443 80 3478/udp 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 CMD ["derpd-health"]
ENTRYPOINT ["derpd", "--container"]
