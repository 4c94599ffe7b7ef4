"""Runs the pods of a rendering as containers of a Docker engine, as a kubelet would.

What is taken from a pod: users and groups, capabilities, the root filesystem, sysctls,
variables with what they refer to, files of ConfigMaps, Secrets and the downward API
with their owners and modes, volumes, first containers, probes and the hook at the end.
A container holds the network of a pod, with the name that a headless Service gives it.
"""

import base64
import http.client
import os
import re
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.install.charts import NAMESPACE, Objects
from tests.support.engine.client import docker
from tests.support.engine.project import IMAGE


PATIENCE = 60.0
"""Seconds for whatever a pod is to do, on a machine that is busy."""

_LOOK = 0.1  # seconds between two probes
_OK = 200
_REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")


class Machine:
    """What pods run on: a network, and a folder for volumes.

    Args:
        environment: Of a Docker engine.
        folder: Where files of pods and volumes are put.
        found: What was rendered; pods find their ConfigMaps and Secrets there.
    """

    def __init__(
        self, environment: Mapping[str, str], folder: Path, found: Objects
    ) -> None:
        self.environment = environment
        self.folder = folder
        self.found = found
        self.mark = f"derpmesh-{os.getpid()}-{secrets.token_hex(3)}"
        self.pods: list[Pod] = []
        docker(environment, "network", "create", "--internal", self.mark)

    def daemon(self, workload: str, found: Objects) -> "Pod":
        """Make a pod of a DaemonSet, of another rendering."""
        spec = found.one("DaemonSet", workload)["spec"]["template"]["spec"]
        return self._add(Pod(self, f"{workload}-x7k2p", spec, found=found))

    def pod(self, workload: str, ordinal: int, found: Objects | None = None) -> "Pod":
        """Make a pod of a StatefulSet; nothing of it runs yet.

        Args:
            workload: Its name.
            ordinal: Of the pod.
            found: Another rendering than the machine's.
        """
        tree = (found or self.found).one("StatefulSet", workload)
        spec = tree["spec"]["template"]["spec"]
        name = f"{workload}-{ordinal}"
        service = tree["spec"]["serviceName"]
        claims = [
            one["metadata"]["name"] for one in tree["spec"]["volumeClaimTemplates"]
        ]
        notes = tree["spec"]["template"]["metadata"].get("annotations", {})
        pod = Pod(self, name, spec, service, claims=claims, notes=notes, found=found)
        return self._add(pod)

    def lone(self, name: str) -> "Pod":
        """Make a pod that is rendered as one."""
        return self._add(Pod(self, name, self.found.one("Pod", name)["spec"]))

    def _add(self, pod: "Pod") -> "Pod":
        self.pods.append(pod)
        return pod

    def close(self) -> None:
        """Remove everything."""
        self.remove([name for pod in self.pods for name in pod.forget()])
        docker(self.environment, "network", "rm", self.mark)

    def remove(self, names: Sequence[str]) -> None:
        """Remove containers, those too that were never made."""
        if names:
            subprocess.run(
                ["docker", "rm", "--force", "--volumes", *names],
                env=dict(self.environment),
                capture_output=True,
                check=False,
            )


class Pod:
    """One pod on a machine.

    Args:
        machine: Where.
        name: Of the pod.
        spec: As it was rendered.
        service: The headless Service that gives it a name; None: it has none.
        claims: Volumes that stay when the pod goes.
        notes: Its annotations.
        found: Where its ConfigMaps and Secrets are; None: where the machine's are.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        spec: Mapping[str, object],
        service: str | None = None,
        *,
        claims: Sequence[str] = (),
        notes: Mapping[str, str] | None = None,
        found: Objects | None = None,
    ) -> None:
        self.machine = machine
        self._found = found or machine.found
        self.name = name
        self.spec: dict = dict(spec)
        self.ip = ""
        self._service = service
        self._claims = claims
        self._notes = notes or {}
        self._containers: list[str] = []
        self._volumes: dict[str, Path] = {}

    @property
    def main(self) -> dict:
        """Its container, as it was rendered."""
        (container,) = self.spec["containers"]
        return container

    # Life.

    def prepare(self) -> str:
        """Give it a network and volumes, and run its first containers.

        Returns:
            What they said.

        Raises:
            AssertionError: One of them failed; says what it said.
        """
        self.hold_network()
        self._make_volumes()
        told = ""
        for container in self.spec.get("initContainers", []):
            status, said = self.run(container)
            assert status == 0, f"{self.name}/{container['name']}: {said}"
            told += said
        return told

    def start(self) -> None:
        """Start its container."""
        self._docker("run", "--detach", *self._words(self.main))

    def run(self, container: Mapping[str, object]) -> tuple[int, str]:
        """Run one of its containers to the end; gives its status, and what it said."""
        return self._ended("run", "--rm", *self._words(container))

    def until(self, probe: str) -> None:
        """Wait until a probe of it succeeds.

        Raises:
            AssertionError: It does not in time; says what the container said.
        """
        deadline = time.monotonic() + PATIENCE
        while not self.probe(probe):
            assert time.monotonic() < deadline, f"{self.name}: {probe}: {self.log}"
            assert self._inspect("{{.State.Running}}") == "true", self.log
            time.sleep(_LOOK)

    def probe(self, probe: str) -> bool:
        """Look once, as the kubelet does: from outside, at the pod's address."""
        look = self.main[probe]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in self.main["ports"]}
        port, timeout = ports[look["port"]], self.main[probe].get("timeoutSeconds", 1)
        connection: http.client.HTTPConnection
        if look.get("scheme") == "HTTPS":
            trusting = ssl.create_default_context()
            trusting.check_hostname = False
            trusting.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(
                self.ip, port, timeout=timeout, context=trusting
            )
        else:
            connection = http.client.HTTPConnection(self.ip, port, timeout=timeout)
        try:
            connection.request("GET", look["path"])
            return connection.getresponse().status == _OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def execute(self, *words: str) -> tuple[int, str]:
        """Do as `kubectl exec`; gives the status, and what was said."""
        return self._ended("exec", self._name(self.main), *words)

    def _ended(self, *words: str) -> tuple[int, str]:
        """Have docker do something; give its status, and what was said."""
        ended = subprocess.run(
            ["docker", *words],
            env=dict(self.machine.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return ended.returncode, ended.stdout

    def end(self) -> tuple[int, str, int]:
        """End it in good order: the hook, TERM, and KILL when its time is over.

        Returns:
            The status of the hook, what it said, and the status of the container.
        """
        hook = self.main["lifecycle"]["preStop"]["exec"]["command"]
        status, said = self.execute(*hook)
        grace = str(self.spec["terminationGracePeriodSeconds"])
        self._docker("stop", "--time", grace, self._name(self.main))
        ended = int(self._inspect("{{.State.ExitCode}}"))
        self.close()
        return status, said, ended

    @property
    def log(self) -> str:
        """What its container said."""
        ended = subprocess.run(
            ["docker", "logs", self._name(self.main)],
            env=dict(self.machine.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.stdout

    def close(self) -> None:
        """Remove its containers; volumes that are claimed stay."""
        self.machine.remove(self.forget())

    def forget(self) -> list[str]:
        """Give up its containers, and name them."""
        names, self._containers = self._containers, []
        return list(dict.fromkeys(names))

    def volume(self, name: str) -> Path:
        """Give where a volume is on the machine."""
        return self._volumes[name]

    # What a container is told.

    def hold_network(self) -> None:
        """Start the container that the others share the network of."""
        words = ["--name", self._label("pause"), "--network", self.machine.mark]
        words += ["--hostname", self.name, "--read-only", "--no-healthcheck"]
        if self._service is not None:
            parent = f"{self._service}.{NAMESPACE}.svc"
            words += ["--network-alias", f"{self.name}.{parent}"]
        if self.spec.get("hostNetwork"):
            # As on a machine; the engine has low ports free for all in containers.
            words += ["--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"]
        for one in self.spec["securityContext"].get("sysctls", []):
            words += ["--sysctl", f"{one['name']}={one['value']}"]
        words += ["--entrypoint", "sleep", IMAGE, "infinity"]
        self._containers.append(self._label("pause"))
        self._docker("run", "--detach", "--init", *words)
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        self.ip = self._docker("inspect", "--format", form, self._label("pause"))

    def _words(self, container: Mapping[str, object]) -> list[str]:
        """Give options, image and command of a container."""
        name = self._name(container)
        self._containers.append(name)
        context = {**self.spec["securityContext"], **container["securityContext"]}
        group = context["runAsGroup"]
        words = ["--name", name, "--network", f"container:{self._label('pause')}"]
        words += ["--no-healthcheck", "--user", f"{context['runAsUser']}:{group}"]
        groups = [context.get("fsGroup"), *context.get("supplementalGroups", [])]
        words += [f"--group-add={one}" for one in groups if one is not None]
        if context["readOnlyRootFilesystem"]:
            words.append("--read-only")
        if not context["allowPrivilegeEscalation"]:
            words += ["--security-opt", "no-new-privileges"]
        words += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
        words += [f"--cap-add={n}" for n in context["capabilities"].get("add", [])]
        words += [f"--env={k}={v}" for k, v in self._variables(container).items()]
        for mount in container["volumeMounts"]:
            where = f"{self._volumes[mount['name']]}:{mount['mountPath']}"
            words += ["--volume", f"{where}:ro" if mount.get("readOnly") else where]
        program, *rest = container["command"]
        return [*words, "--entrypoint", program, container["image"], *rest]

    def _variables(self, container: Mapping[str, object]) -> dict[str, str]:
        """Give the variables of a container, with what they refer to."""
        found: dict[str, str] = {}
        for one in container.get("env", []):
            if "valueFrom" in one:
                path = one["valueFrom"]["fieldRef"]["fieldPath"]
                found[one["name"]] = self._field(path)
            else:
                found[one["name"]] = _REFERENCE.sub(
                    lambda reference: found[reference[1]], one["value"]
                )
        return found

    def _field(self, path: str) -> str:
        """Give what the downward API says. The pod is alone on its machine."""
        return {
            "metadata.name": self.name,
            "metadata.namespace": NAMESPACE,
            "status.podIP": self.ip,
            "status.hostIP": self.ip,
            "spec.nodeName": f"machine-of-{self.name}",
        }[path]

    # Files.

    def _make_volumes(self) -> None:
        group = self.spec["securityContext"].get("fsGroup", 0)
        for name in self._claims:
            kept = self.machine.folder / "claims" / f"{name}-{self.name}"
            if not kept.exists():
                kept.mkdir(parents=True)
                os.chown(kept, 0, group)
                kept.chmod(0o2775)
            self._volumes[name] = kept
        for volume in self.spec.get("volumes", []):
            folder = self.machine.folder / self.name / volume["name"]
            if "emptyDir" in volume:  # ends with its pod; a hostPath stays as it is
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                os.chown(folder, 0, group)
                folder.chmod(0o2777)
            for path, data, mode in self._files(volume):
                self._write(folder / path, data, mode, group)
            self._volumes[volume["name"]] = folder

    def _write(self, path: Path, data: bytes, mode: int, group: int) -> None:
        """Write a file of root's that a group may read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        os.chown(path, 0, group)
        path.chmod(mode)

    def _files(self, volume: Mapping[str, dict]) -> Iterator[tuple[str, bytes, int]]:
        """Yield path, content and mode of each file of a volume."""
        if "downwardAPI" in volume:
            lines = [f'{key}="{text}"\n' for key, text in sorted(self._notes.items())]
            yield "annotations", "".join(lines).encode(), 0o644
        if "configMap" in volume:
            yield from self._of("ConfigMap", volume["configMap"], 0o644)
        if "secret" in volume:
            yield from self._of("Secret", volume["secret"], 0o644)
        for source in volume.get("projected", {}).get("sources", []):
            mode = volume["projected"]["defaultMode"]
            if "secret" in source:
                yield from self._of(
                    "Secret", {"defaultMode": mode, **source["secret"]}, 0
                )

    def _of(
        self, kind: str, source: Mapping[str, object], usual: int
    ) -> Iterator[tuple[str, bytes, int]]:
        """Yield the files of one object."""
        wanted = str(source.get("secretName") or source["name"])
        tree = self._found.one(kind, wanted)
        data = {
            key: base64.b64decode(text) if kind == "Secret" else text.encode()
            for key, text in tree["data"].items()
        }
        mode = int(source.get("defaultMode", usual))
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            if item["key"] in data or not source.get("optional"):
                yield item["path"], data[item["key"]], mode

    # Docker.

    def _name(self, container: Mapping[str, object]) -> str:
        return self._label(str(container["name"]))

    def _label(self, part: str) -> str:
        return f"{self.machine.mark}-{self.name}-{part}"

    def _inspect(self, form: str) -> str:
        return self._docker("inspect", "--format", form, self._name(self.main))

    def _docker(self, *words: str) -> str:
        return docker(self.machine.environment, *words)
