"""Where a row says its code is from: in a checkout, copied to a machine, and installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sweeps.run.provenance import COMMITS, PACKAGES, git_commit, packages_digest

WHO = ("-c", "user.name=one", "-c", "user.email=one@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *WHO, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def write_packages(folder: Path) -> None:
    for package in PACKAGES:
        (folder / package / "inner").mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
        (folder / package / "inner/code.py").write_text("a = 1\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    write_packages(folder)
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "second")
    return folder


def test_a_checkout_is_its_commit_and_dirty_once_changed(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert git_commit(checkout) == commit
    (checkout / "sweeps/inner/code.py").write_text("a = 2\n")
    assert git_commit(checkout) == f"{commit}-dirty"


def test_a_copy_with_the_log_of_commits_is_its_commit_and_digest(
    checkout: Path, tmp_path: Path
) -> None:
    """The log is git's own, also after a step back."""
    second = git(checkout, "rev-parse", "HEAD")[:12]
    git(checkout, "checkout", "--quiet", "--detach", "HEAD~1")
    git(checkout, "checkout", "--quiet", second)
    copy = tmp_path / "copy"
    for package in PACKAGES:
        shutil.copytree(checkout / package, copy / package)
    assert git_commit(copy) == f"code.{packages_digest(checkout)}"
    shutil.copy(checkout / ".git/logs/HEAD", copy / COMMITS)
    assert git_commit(copy) == f"{second}+code.{packages_digest(checkout)}"


def test_packages_installed_inside_another_repository_are_not_of_its_commit(checkout: Path) -> None:
    installed = checkout / ".venv"
    write_packages(installed)
    assert git_commit(installed) == f"code.{packages_digest(installed)}"


def test_the_digest_covers_every_package_and_only_code(tmp_path: Path) -> None:
    write_packages(tmp_path)
    seen = [packages_digest(tmp_path)]
    for package in PACKAGES:
        (tmp_path / package / "inner/code.py").write_text("a = 2\n")
        seen.append(packages_digest(tmp_path))
    assert len(set(seen)) == 1 + len(PACKAGES)
    (tmp_path / "sweeps/notes.txt").write_text("no code")
    assert packages_digest(tmp_path) == seen[-1]
