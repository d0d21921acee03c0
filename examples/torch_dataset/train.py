"""One dataset for all workers of a torch DataLoader, beside the same dataset pickled to each.

python train.py [--images 20000] [--workers 2]
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import onecopy as oc


class Pictures(Dataset):
    """Pictures and labels as numpy arrays."""

    def __init__(self, pictures, labels):
        self.pictures, self.labels = pictures, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        picture = self.pictures[index] / np.float32(255)  # a new array, which belongs to the worker
        return torch.from_numpy(picture), int(self.labels[index])


class SharedPictures(Pictures):
    """The same, in a pool: a worker gets two references, and reads the arrays in place."""

    def __init__(self, pictures, labels):
        self.references = oc.put(pictures), oc.put(labels)
        super().__init__(*(each.get() for each in self.references))

    def __getstate__(self):
        return self.references

    def __setstate__(self, references):
        self.references = references
        super().__init__(*(each.get() for each in references))


def proportional_memory():
    """Return the memory of this process and its children in bytes; a shared page counts once.

    Pages of libraries do not count: how much of them is this program's depends on other programs.
    """
    total = 0
    for pid in [os.getpid(), *(process.pid for process in multiprocessing.active_children())]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            counts = line.startswith(("Pss_Anon:", "Pss_Shmem:"))
            total += 1024 * int(line.split()[1]) if counts else 0
    return total


def one_epoch(dataset, workers):
    """Read everything; return seconds, the memory while workers live, and the sum of the labels."""
    loader = DataLoader(
        dataset,
        batch_size=100,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",  # as programs with CUDA or threads need it
    )
    began = time.perf_counter()
    batches = iter(loader)
    total = sum(int(labels.sum()) for _, labels in batches)
    return time.perf_counter() - began, proportional_memory(), total


def make(images):
    random = np.random.default_rng(7)
    pictures = random.integers(0, 256, (images, 3, 64, 64), np.uint8)
    return pictures, random.integers(0, 10, images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    size = make(options.images)[0].nbytes
    print(f"{options.images:,} pictures, {size / 1e6:,.0f} MB, {options.workers} workers")
    _, without, _ = one_epoch(Pictures(*make(1)), options.workers)
    for kind in Pictures, SharedPictures:
        dataset = kind(*make(options.images))
        seconds, memory, total = one_epoch(dataset, options.workers)
        assert total == int(make(options.images)[1].sum()), "a label is missing"  # noqa: S101
        print(f"{kind.__name__:<16}{seconds:6.1f} s{(memory - without) / size:6.1f} copies")
        del dataset
