#!/usr/bin/env python3
"""Writes down what else is in the binaries: a list for people with all licence texts, and one for programs (CycloneDX).

    bill.py --target TRIPLE --features "cli capi" --text FILE --json FILE [--with NAME VERSION LICENCE FILE]...

Counts are the crates that are linked, as `cargo metadata` resolves them: not those that only build or test. The
standard library's licences are those that come with the toolchain ($RUSTC, or rustc). --with adds what is linked
besides, such as a C library. The same input gives the same bytes.
"""

import argparse
import html
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
OF_STD = "the Rust standard library"
LICENCE_FILES = re.compile(r"(?i)(licen[cs]e|copying|notice|unlicense)")


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def linked(target, features):
    """The crate itself, then all that is linked with it, by name; and for each whom it needs."""
    metadata = json.loads(
        output("cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", target,
               "--no-default-features", "--features", features))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root, needs = metadata["resolve"]["root"], {}
    queue = [root]
    while queue:
        id = queue.pop()
        if id in needs:
            continue
        normal = [dep["pkg"] for dep in nodes[id]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        needs[id] = [dep for dep in normal if not is_macro(packages[dep])]
        queue += needs[id]
    rest = sorted(needs.keys() - {root}, key=lambda id: (packages[id]["name"], packages[id]["version"]))
    return packages, [root, *rest], needs


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def texts_of(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in directory.iterdir() if path.is_file() and LICENCE_FILES.match(path.name))
    if package["license_file"]:
        files.append(directory / package["license_file"])
    if not files:
        sys.exit(f"Error: {package['name']} {package['version']} has no licence text; give it by --with")
    return [path.read_text() for path in files]


def standard_library(rustc):
    """Its version, and [(name, licence, texts)]: its own, and those of the crates in it."""
    version = re.search(r"^release: (.*)", output(rustc, "-vV"), re.M)[1]
    sysroot = pathlib.Path(output(rustc, "--print", "sysroot").strip())
    page = sysroot / "share/doc/rust/COPYRIGHT-library.html"
    debian = [path for path in sorted(sysroot.glob("share/doc/libstd-rust*-dev/copyright"))]
    if page.exists():
        return version, from_page(page.read_text(), sysroot / "share/doc/rust/licenses")
    if debian:
        return version, from_debian(debian[0].read_text(), sysroot / "lib/rustlib/src/rust/library/vendor")
    files = sorted([*sysroot.glob("share/licenses/rust*/*"), *sysroot.glob("share/doc/rust/LICENSE*")])
    if not files:
        sys.exit(f"Error: {sysroot} has no licence of the standard library")
    return version, [(OF_STD, "MIT OR Apache-2.0", [path.read_text() for path in files if path.is_file()])]


def from_page(page, licences):
    own = [(licences / name).read_text() for name in ["MIT.txt", "Apache-2.0.txt", "Unicode-3.0.txt"]]
    parts = [(OF_STD, "MIT OR Apache-2.0", own)]
    for section in page.split("<h3>")[1:]:
        name = re.sub(r"[^\x21-\x7e]+", "", html.unescape(section.split("</h3>")[0])).strip()
        licence = re.search(r"<b>License:</b>\s*([^<]*)", section)
        texts = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", section, re.S)]
        parts.append((f"{name}, in the sources of the standard library", licence[1].strip() if licence else "see below", texts))
    return parts


def from_debian(copyright, vendor):
    """From the package's copyright file: the parts about the library and, where the sources are there, its crates."""
    stanzas = copyright.split("\n\n")
    vendored = [path.name.rsplit("-", 1)[0] for path in vendor.iterdir()] if vendor.exists() else [""]
    about = [stanza for stanza in stanzas if is_of_library(stanza, vendored)]
    names = set(re.findall(r"[\w.+-]+", " ".join(re.findall(r"^License: (.*)", "\n".join(about), re.M))))
    texts = [stanza for stanza in stanzas if (found := re.match(r"License: (\S+)\n", stanza)) and found[1] in names]
    return [(OF_STD, "MIT OR Apache-2.0, and others", ["\n\n".join(about + texts)])]


def is_of_library(stanza, vendored):
    files = re.match(r"Files:((?:.*\n)+?)\w", stanza)
    patterns = files[1].split() if files else []
    return any(
        pattern == "*" or pattern.startswith("library/") or
        any(re.match(rf"vendor/{re.escape(name)}(-|/|\*)", pattern) for name in vendored) for pattern in patterns)


def text(name, entries):
    """Each licence text once, below those that it is for."""
    whose = {}
    for title, _, _, texts in entries:
        for one in texts:
            key = " ".join(one.split())
            whose.setdefault(key, (one, []))[1].append(title)
    lines = [f"What else is in the binaries of {name}, and the licence of each part. The texts follow.", ""]
    lines += [f"{title}: {licence}{f' <{address}>' if address else ''}" for title, licence, address, _ in entries]
    for one, titles in whose.values():
        lines += ["", "-" * 80, ", ".join(titles), "-" * 80, "", one.strip("\n")]
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


def cyclonedx(packages, order, needs, others):
    sums = {(package["name"], package["version"]): package.get("checksum")
            for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}

    def component(package):
        name, version = package["name"], package["version"]
        entry = {"type": "library", "bom-ref": purl(package), "name": name, "version": version}
        if checksum := sums.get((name, version)):
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        # SPDX's way to say "or"; a few old crates have a slash.
        entry["licenses"] = [{"expression": (package["license"] or "NOASSERTION").replace("/", " OR ")}]
        entry["purl"] = purl(package)
        if package["repository"]:
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return entry

    root, *rest = [packages[id] for id in order]
    made = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    bill = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", made),
            "component": component(root) | {"type": "application"},
        },
        "components": [component(package) for package in rest] + [
            {"type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version,
             "licenses": [{"license": {"name": licence}}]} for name, version, licence in others],
        "dependencies": [
            {"ref": purl(packages[id]), "dependsOn": sorted(purl(packages[dep]) for dep in needs[id])} for id in order],
    }
    bill["dependencies"][0]["dependsOn"] += [f"{name}@{version}" for name, version, _ in others]
    return json.dumps(bill, indent=1) + "\n"


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--target", required=True)
    arguments.add_argument("--features", default="cli capi")
    arguments.add_argument("--text", required=True, type=pathlib.Path)
    arguments.add_argument("--json", required=True, type=pathlib.Path)
    arguments.add_argument("--with", dest="others", nargs=4, action="append", default=[])
    given = arguments.parse_args()

    packages, order, needs = linked(given.target, given.features)
    rust, std = standard_library(os.environ.get("RUSTC", "rustc"))
    entries = []
    for package in [packages[id] for id in order[1:]]:
        title = f"{package['name']} {package['version']}"
        entries.append((title, package["license"] or "see below", package["repository"], texts_of(package)))
    entries += [(name, licence, None, texts) for name, licence, texts in std]
    for name, version, licence, file in given.others:
        entries.append((f"{name} {version}".strip(), licence, None, [pathlib.Path(file).read_text()]))
    root = packages[order[0]]
    others = [("rust-std", rust, "MIT OR Apache-2.0")] + [tuple(other[:3]) for other in given.others]
    given.text.write_text(text(f"awrite {root['version']}", entries))
    given.json.write_text(cyclonedx(packages, order, needs, others))


main()
