"""Drives CMake; how native code is built stands in CMakeLists.txt alone."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class CMakeBuild(build_ext):
    """Configures and builds the module, then puts it where setuptools wants it."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        name = ext.name.rpartition(".")[2]
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path("build", f"cmake-{sysconfig.get_config_var('SOABI')}").resolve()
        # A cache names the tools of the isolated environment that made it, which is gone by now.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        cmake = shutil.which("cmake") or "cmake"
        configure = [
            cmake,
            "-S.",
            f"-B{build}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]
        if shutil.which("ninja"):
            configure.append("-GNinja")
        subprocess.run(configure, check=True)
        jobs = str(os.cpu_count() or 1)
        subprocess.run([cmake, "--build", str(build), "--target", name, "-j", jobs], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (built,) = build.glob(f"{name}*.so")
        shutil.copy2(built, target)
        # A checkout that is the working directory hides the installed package from `python -m`: it gets
        # the modules too. By a rename: a program that runs has the old one mapped.
        here = Path(__file__).resolve().parent / "pyminicon" / built.name
        shutil.copy2(built, f"{here}.new")
        os.replace(f"{here}.new", here)


MODULES = ("pyminicon._core", "pyminicon._unpack")
setup(
    ext_modules=[Extension(name, []) for name in MODULES],
    cmdclass={"build_ext": CMakeBuild},
)
