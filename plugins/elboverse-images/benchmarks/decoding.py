"""How fast, and in how much memory, a folder of JPEGs is decoded into the cache: against a loop over Pillow, in turn.

    python plugins/elboverse-images/benchmarks/decoding.py [--images 5000] [--repeats 5] [--workers N]

Each measurement is a process of its own, and the files are in the page cache. Memory is the peak of what the process
holds beside mapped files, above what its imports take; Linux only.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

LOOP = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
used = sum(os.times()[:4])
start = time.perf_counter()
files = sorted(Path(sys.argv[1]).iterdir())
images = np.empty((len(files), 3, 64, 64), np.uint8)
for index, file in enumerate(files):
    with Image.open(file) as image:
        small = image.convert("RGB").crop((15, 35, 163, 183)).resize((64, 64), Image.Resampling.BILINEAR)
    images[index] = np.asarray(small).transpose(2, 0, 1)
np.save(sys.argv[2] + "/loop.npy", images)
print(json.dumps([time.perf_counter() - start, sum(os.times()[:4]) - used, 0]))
"""
START = """
import json, os, sys, threading, time
from pathlib import Path
def anonymous():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024
peak = 0.0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.01)
if __name__ == "__main__":  # as in the program itself, the decoding processes import no torch
    from elboverse_images.picture_datasets import CelebAOptions, build_celeba
    threading.Thread(target=watch, daemon=True).start()
    before, used, start = anonymous(), sum(os.times()[:4]), time.perf_counter()
    build_celeba(CelebAOptions(root=Path(sys.argv[1]), workers=int(sys.argv[3])), 0)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, sum(os.times()[:4]) - used, peak - before]))
"""


def generate(folder: Path, count: int) -> Path:
    """Write JPEGs of 178 × 218 pixels: smooth shapes with a little noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (14, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (smooth + random.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(noisy).save(content, "JPEG", quality=90)
        (folder / f"{number:06}.jpg").write_bytes(content.getvalue())
    return folder


def measure(code: str, folder: Path, workers: int, cache: Path) -> tuple[float, float, float]:
    """Return seconds, processor seconds of it and its children, and MiB of peak memory."""
    cache.mkdir(exist_ok=True)
    script = cache / "measured.py"
    script.write_text(code, encoding="ascii")
    command = [sys.executable, str(script), str(folder), str(cache), str(workers)]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    seconds, processor, mebibytes = json.loads(done.stdout)
    return seconds, processor, mebibytes


def main() -> None:
    """Generate the images, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder, fewer = generate(root / "images", given.images), generate(root / "fewer", given.images // 4)
        pairs = [
            (measure(LOOP, folder, 1, root / "loop"), measure(START, folder, given.workers, root / f"cache-{number}"))
            for number in range(given.repeats)
        ]
        small = measure(START, fewer, given.workers, root / "cache-fewer")
        again = measure(START, folder, given.workers, root / "cache-0")
    ratios = [loop[0] / ours[0] for loop, ours in pairs]
    lines = {
        "loop over Pillow": tuple(map(statistics.median, zip(*(loop for loop, _ in pairs), strict=True))),
        "first start": tuple(map(statistics.median, zip(*(ours for _, ours in pairs), strict=True))),
        "second start": again,
        f"first start, {given.images // 4:,} images": small,
    }
    sys.stdout.write(f"{given.images:,} JPEGs, {given.workers} processes\n")
    sys.stdout.write(f"{'':28}  seconds  of processors  MiB\n")
    for name, (seconds, processor, mebibytes) in lines.items():
        sys.stdout.write(f"{name:28} {seconds:8.2f} {processor:14.2f} {mebibytes:4.1f}\n")
    sys.stdout.write(f"loop / first start: {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})\n")


if __name__ == "__main__":
    main()
