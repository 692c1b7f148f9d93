# roireg with all that it needs, for any user, with a read-only root and without a home: docs/container.md
FROM debian:bookworm-slim

# A C compiler and Python.h: Triton compiles with them when it first renders on a GPU.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev make python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/venv && /opt/venv/bin/python -m pip install --no-cache-dir --quiet uv
ENV PATH=/opt/venv/bin:$PATH

# Before the sources, so that a changed line of them downloads nothing again.
COPY requirements.lock /opt/roireg/
RUN uv pip install --no-cache --python /opt/venv/bin/python --compile-bytecode --require-hashes --no-deps \
    --requirement /opt/roireg/requirements.lock

COPY . /opt/roireg
RUN uv pip install --no-cache --python /opt/venv/bin/python --no-deps --editable /opt/roireg \
    && python -m compileall -q /opt/roireg/src \
    && chmod -R a+rX /opt/roireg

# Caches of Snakemake; roireg finds a folder for those of other libraries itself (src/roireg/places.py).
ENV XDG_CACHE_HOME=/tmp/cache LC_ALL=C.UTF-8
WORKDIR /work
USER 65534:65534
CMD ["roireg", "--help"]
