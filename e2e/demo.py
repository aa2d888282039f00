"""`make demo`: from nothing to an answer. A second run reuses what is there."""

from __future__ import annotations

import sys
import time

from e2e import cluster_under_test
from e2e.cluster import binaries, nodes

NAME, NAMESPACE = "tiny-omni", "default"


def main() -> int:
    """Runs the demo; prints how to look further."""
    begun = time.monotonic()
    _title("1. A cluster with KubeRay, the operator by Helm, and the real engine for CPU")
    print(
        "The first time takes 30 to 35 minutes on 2 cores, most of it builds; what is built is kept for later runs.",
        flush=True,
    )
    cluster_under_test.up(with_engine=True, with_standin=False)

    _title("2. kubectl apply -f examples/tiny-cpu.yaml")
    manifest = cluster_under_test.ROOT / "examples/tiny-cpu.yaml"
    print(manifest.read_text())
    print(nodes.kubectl("apply", "-f", str(manifest)))

    _title("3. What it became (kubectl omni status --wait)")
    omni = cluster_under_test.ROOT / ".venv/bin/omni"
    cluster_under_test.run([str(omni), "status", NAME, "-n", NAMESPACE, "--wait", "--timeout", "900"])
    print(nodes.kubectl("get", "omni", "-n", NAMESPACE))

    _title("4. A question through the public Service")
    wav = cluster_under_test.ROOT / "out/demo.wav"
    cluster_under_test.run(
        [
            str(omni),
            "chat",
            NAME,
            "Hello, who are you?",
            "-n",
            NAMESPACE,
            "--audio",
            str(wav.relative_to(cluster_under_test.ROOT)),
        ],
        cwd=cluster_under_test.ROOT,
    )
    print(
        "(the checkpoint is random: the text is noise and the sound a row of sine tones, but every stage made its part)"
    )

    _title(f"Done in {time.monotonic() - begun:.0f} s. To look further:")
    print(
        f"  export KUBECONFIG={nodes.kubeconfig()} "
        f"PATH={binaries.ensure('kubectl').parent}:{cluster_under_test.ROOT}/.venv/bin:$PATH"
    )
    print(
        "  kubectl get omni; kubectl describe omni tiny-omni; kubectl omni status tiny-omni; kubectl get pods -o wide"
    )
    print("  kubectl explain omni.spec.transport")
    print("To clean up: make clean")
    return 0


def _title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
