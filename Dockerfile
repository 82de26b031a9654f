# docker build -t REGISTRY/smi-xds:0.1.0 .
# Then: smi-xds install --image REGISTRY/smi-xds:0.1.0
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
COPY requirements-image.lock /build/
# As wheels alone, whose hashes are known: nothing of others runs while the image is built.
RUN python -m venv --without-pip /opt/smi-xds \
 && python -m pip --python /opt/smi-xds/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-deps --require-hashes --only-binary :all: -r /build/requirements-image.lock
COPY smi_xds /build/smi_xds
# The package is its sources. Compiled here, as nothing can be written where it runs.
RUN cp -r /build/smi_xds "$(/opt/smi-xds/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && /opt/smi-xds/bin/python -m compileall -q /opt/smi-xds/lib \
 && printf '#!/opt/smi-xds/bin/python\nfrom smi_xds.cli.main import main\n\nmain()\n' > /opt/smi-xds/bin/smi-xds \
 && chmod 755 /opt/smi-xds/bin/smi-xds

FROM python:${PYTHON}-slim
# What only builds stays behind, the base's own included.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip
COPY --from=build /opt/smi-xds /opt/smi-xds
COPY LICENSE /opt/smi-xds/
ENV PATH=/opt/smi-xds/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, so that the kubelet sees that it is not root; as in deploy/kubernetes/deployment.yaml.
USER 65532:65532
# xDS (with TLS), monitoring, webhooks
EXPOSE 15012 15014 15017
ENTRYPOINT ["smi-xds"]
CMD ["--help"]
