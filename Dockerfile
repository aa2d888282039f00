# The operator's image: no root, no shell needed, nothing written at run time.
#
#   docker build -t ghcr.io/omni-operator/omni-operator:0.1.0 .        (podman build does as well)
#
# BASE is any image with python3 (3.11 or newer) and its venv module. A machine whose pip needs a configuration or
# certificates of its own gives them as secrets, which leave no trace in the image:
#   --secret id=pip,src=pip.conf --secret id=ca,src=ca-certificates.crt       (in pip.conf: cert = /run/secrets/ca)
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS dependencies
WORKDIR /build
ENV PIP_CONFIG_FILE=/run/secrets/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# /opt/build holds pip and the build backend and stays here; /opt/omni holds what runs, and no pip
COPY constraints-build.txt constraints-runtime.txt ./
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    python3 -m venv /opt/build && python3 -m venv --without-pip /opt/omni \
    && /opt/build/bin/pip install --quiet --require-hashes --only-binary=:all: -r constraints-build.txt \
    && /opt/build/bin/pip --python /opt/omni/bin/python install --quiet --require-hashes --only-binary=:all: \
        -r constraints-runtime.txt

# The package alone, so that a change of it is one small layer on top of what it depends on.
FROM dependencies AS package
# found by this label when what a build leaves behind is removed
LABEL dev.omni-operator.stage=package
COPY pyproject.toml README.md ./
COPY operator operator
RUN PYTHONPATH=$(echo /opt/build/lib/python3*/site-packages) \
    /opt/build/bin/pip --python /opt/omni/bin/python install --quiet --no-deps --no-build-isolation --no-index \
        --no-warn-script-location --root /package .

FROM ${BASE}
COPY --from=dependencies /opt/omni /opt/omni
COPY --from=package /package/ /
# SAFEPATH: a file in the working folder must not stand in for a module
# USER: kopf asks for a name, and no entry of /etc/passwd has one for this uid (or for the random ones of OpenShift)
ENV PATH=/opt/omni/bin:/usr/local/bin:/usr/bin:/bin HOME=/home/omni USER=omni LANG=C.UTF-8 \
    PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8080
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="omni-operator" \
      org.opencontainers.image.description="Kubernetes operator that serves omni-modality models with vllm-omni on KubeRay" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["python3", "-m", "omni_operator"]
