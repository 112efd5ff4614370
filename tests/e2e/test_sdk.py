# SPDX-License-Identifier: Apache-2.0
"""The SDKs as users meet them: the shared cases, and the programs of their documentation, installed.

MSB_TEST_SDKS says which (default: python and c, which need nothing more than this test does; what only C has
is in test_clib.py);
`make check-sdk` names all of them and MSB_TEST_RUST_DRIVER, the Rust crate's driver of the cases.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

from conftest import BUILD, MSB, ROOT, TIMEOUT
from server_client import Server

SDKS = os.environ.get("MSB_TEST_SDKS", "python,c").split(",")
LANGUAGES = sorted({s.split("-")[0] for s in SDKS})
# Neither node nor cargo, and no registry.
ONLY_LOCAL = set(LANGUAGES) <= {"python", "c"}
CASES = ROOT / "tests/conformance"
RUST_DRIVER = os.environ.get("MSB_TEST_RUST_DRIVER", "")
# Everything of a suite, for several SDKs, on a machine that does other things too.
SUITE_TIMEOUT = 1500


def run(*command, cwd=None, env=None, timeout=TIMEOUT):
    p = subprocess.run([str(c) for c in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=timeout, text=True)
    assert p.returncode == 0, p.stdout
    return p.stdout


def test_types_are_those_of_the_schema():
    run(ROOT / "tools/gen-sdk-types", "--check")


@pytest.mark.parametrize("suite", sorted(p.stem for p in CASES.glob("*.json")))
def test_shared_cases(suite):
    sdks = [a for s in SDKS for a in ("--sdk", s)]
    quick = [] if "rust" in SDKS else ["--quick"]
    driver = ["--c-driver", BUILD / "sdk/c/conformance/driver", *(["--rust-driver", RUST_DRIVER] if RUST_DRIVER else [])]
    out = run(sys.executable, CASES / "run.py", "--msb", MSB, *sdks, *quick, *driver, CASES / f"{suite}.json",
              timeout=SUITE_TIMEOUT)
    assert " passed, 0 failed" in out


@pytest.mark.skipif("c" not in LANGUAGES, reason="not asked for")
@pytest.mark.parametrize("suite", ["peer", "peer-sockets"])
def test_shared_cases_of_a_misbehaving_server_under_the_sanitizers(suite):
    san = os.path.relpath(BUILD, ROOT) + "/sdk/c/san/driver"
    run("make", "--no-print-directory", "-C", ROOT, f"O={os.path.relpath(BUILD, ROOT)}", san)
    out = run(sys.executable, CASES / "run.py", "--quick", "--sdk", "c", "--c-driver", ROOT / san, CASES / f"{suite}.json")
    assert " passed, 0 failed" in out


@pytest.mark.skipif("python" not in LANGUAGES, reason="not asked for")
def test_python_package():
    env = dict(os.environ, PYTHONPATH="src")
    run(sys.executable, "-W", "error::ResourceWarning", "-m", "unittest", "discover", "-s", "tests", cwd=ROOT / "sdk/python", env=env)


@pytest.mark.skipif("javascript" not in LANGUAGES, reason="not asked for")
def test_javascript_package():
    run("node", "--test", "test/package.test.mjs", cwd=ROOT / "sdk/javascript")


# ---- the programs of the documentation, as users install and run them -----------------------

PYTHON = """
    import asyncio

    async def main():
        from microsandbox import PythonSandbox
        async with PythonSandbox.create(name="test") as sb:
            exec = await sb.run("name = 'Python'")
            exec = await sb.run("print(f'Hello {name}!')")
            print(await exec.output())  # Hello Python!

    asyncio.run(main())
"""
JAVASCRIPT = """
    import { NodeSandbox } from "microsandbox";
    const sb = await NodeSandbox.create({ name: "test" });
    let exec = await sb.run("var name = 'JavaScript'");
    exec = await sb.run("console.log(`Hello ${name}!`)");
    console.log(await exec.output());  // Hello JavaScript!
    await sb.stop();
"""
RUST = """
    use microsandbox::{SandboxOptions, PythonSandbox};

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let options = SandboxOptions::builder().name("test").build();
        let mut sb = PythonSandbox::create(options).await?;
        let exec = sb.run(r#"name = "Rust""#).await?;
        assert!(!exec.has_error());
        let exec = sb.run(r#"print(f"Hello {name}!")"#).await?;
        println!("{}", exec.output().await?);
        sb.stop().await?;

        let mut sb = PythonSandbox::create("test").await?;
        sb.stop().await?;
        Ok(())
    }
"""
CARGO = f"""
    [package]
    name = "hello"
    version = "0.1.0"
    edition = "2021"

    [dependencies]
    microsandbox = {{ path = "{ROOT}/sdk/rust" }}
    tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
"""
needs_registries = pytest.mark.skipif(ONLY_LOCAL, reason="installs from a registry: make check-sdk")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip())


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0, s.log()
    s.close()


@pytest.fixture
def env(server):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MSB_") and k != "PYTHONPATH"}
    return dict(clean, MSB_SERVER_URL=server.url)


def test_python_program(env, tmp_path):
    write(tmp_path / "hello.py", PYTHON)
    out = run(sys.executable, "hello.py", cwd=tmp_path, env=dict(env, PYTHONPATH=str(ROOT / "sdk/python/src")))
    assert out == "Hello Python!\n"


@needs_registries
def test_python_program_installed(env, tmp_path):
    write(tmp_path / "hello.py", PYTHON)
    # pip builds in the folder that it is given; ours stays as it is.
    shutil.copytree(ROOT / "sdk/python", tmp_path / "sdk", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", tmp_path / "sdk")
    out = run(tmp_path / "venv/bin/python", "hello.py", cwd=tmp_path, env=env)
    assert out == "Hello Python!\n"
    out = run(tmp_path / "venv/bin/python", "-c",
              "import microsandbox, os; print(os.listdir(os.path.dirname(microsandbox.__file__)))")
    assert "py.typed" in out


@pytest.mark.skipif("javascript" not in LANGUAGES, reason="not asked for")
def test_javascript_program_installed(env, tmp_path):
    write(tmp_path / "package.json", '{"private": true}')
    run("npm", "install", "--silent", "--no-audit", "--no-fund", ROOT / "sdk/javascript", cwd=tmp_path)
    write(tmp_path / "hello.mjs", JAVASCRIPT)
    assert run("node", "hello.mjs", cwd=tmp_path, env=env) == "Hello JavaScript!\n"


@pytest.mark.skipif("rust" not in LANGUAGES, reason="not asked for")
def test_rust_program_with_a_path_dependency(env, tmp_path):
    write(tmp_path / "Cargo.toml", CARGO)
    write(tmp_path / "src/main.rs", RUST)
    # The crate's own versions, so that nothing depends on what the registry has today.
    (tmp_path / "Cargo.lock").write_bytes((ROOT / "sdk/rust/Cargo.lock").read_bytes())
    target = pathlib.Path(RUST_DRIVER).parents[2]
    out = run("cargo", "run", "--quiet", cwd=tmp_path, env=dict(env, CARGO_TARGET_DIR=str(target)), timeout=SUITE_TIMEOUT)
    assert out == "Hello Rust!\n"


EXAMPLES = [p for language, pattern in (("python", "python/examples/*.py"), ("javascript", "javascript/examples/*.*js"),
                                        ("rust", "rust/examples/*.rs")) if language in LANGUAGES
            for p in sorted((ROOT / "sdk").glob(pattern))]


@pytest.mark.skipif(ONLY_LOCAL, reason="make check-sdk runs them all")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: f"{p.parent.parent.name}-{p.stem}")
def test_example(path, env, tmp_path):
    if path.suffix == ".py":
        run(sys.executable, path, env=dict(env, PYTHONPATH=str(ROOT / "sdk/python/src")))
    elif path.suffix == ".rs":
        out = run(pathlib.Path(RUST_DRIVER).with_name(path.stem), env=env)
        assert "Unexpected" not in out
    else:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules/microsandbox").symlink_to(ROOT / "sdk/javascript")
        run("node", copy, env=env)
