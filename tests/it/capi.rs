//! The C ABI: the libraries as they are installed, with programs in C that were compiled against the checked-in header.
//! The libraries are built anew from the sources, into a directory of their own.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use crate::common::{AWRITE, TestDir, assert_no_debris, needs, needs_full, needs_mount, needs_strace, wait_until};
use crate::filesystems::Mount;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// Makes the libraries a tenth of the size.
const LESS_DEBUG: (&str, &str) = ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");

/// The C libraries have their own build directory.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi")
}

/// The same file that pkg/Makefile uses.
fn native_libs_file() -> PathBuf {
    target_dir().join("debug/native-static-libs")
}

/// The result of a build with the feature `capi`.
struct Built {
    dir: PathBuf,
    header: String,
    /// The linker options that a program with the static library needs, from rustc.
    native_libs: String,
}

impl Built {
    /// Builds it, once for all tests.
    fn get() -> &'static Built {
        static BUILT: OnceLock<Built> = OnceLock::new();
        BUILT.get_or_init(|| {
            let output = Command::new(env!("CARGO"))
                .current_dir(ROOT)
                .args(["rustc", "--locked", "--quiet", "--lib", "--no-default-features", "--features", "capi"])
                .args(["--crate-type", "cdylib,staticlib", "--message-format", "json-render-diagnostics"])
                .arg("--target-dir")
                .arg(target_dir())
                // With the options of pkg/Makefile, which then does not build it again.
                .args(["--", "-C", "link-arg=-Wl,-soname,libawrite.so.1", "--print"])
                .arg(format!("native-static-libs={}", native_libs_file().display()))
                .env(LESS_DEBUG.0, LESS_DEBUG.1)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Built::read(&String::from_utf8(output.stdout).unwrap())
        })
    }

    /// Finds the libraries and the header in what cargo says.
    fn read(messages: &str) -> Built {
        let messages: Vec<serde_json::Value> =
            messages.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ours = |reason: &str| {
            let of_this_crate = |id: &serde_json::Value| id.as_str().unwrap().contains(ROOT);
            messages.iter().rfind(|m| m["reason"] == reason && of_this_crate(&m["package_id"])).unwrap()
        };
        let out = ours("build-script-executed")["out_dir"].as_str().unwrap();
        let library = ours("compiler-artifact")["filenames"].as_array().unwrap().iter();
        let library = library.map(|name| Path::new(name.as_str().unwrap())).find(|path| path.ends_with("libawrite.so"));
        let dir = library.unwrap().parent().unwrap().to_owned();
        // The SONAME: programs look for this name when they start.
        let _ = std::os::unix::fs::symlink("libawrite.so", dir.join("libawrite.so.1"));
        let header = fs::read_to_string(Path::new(out).join("awrite.h")).unwrap();
        Built { dir, header, native_libs: fs::read_to_string(native_libs_file()).unwrap() }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    Static,
    Shared,
    /// The C library too, as `cc -static` does.
    WhollyStatic,
}

/// Compiles a program as C11 into `dir`.
#[track_caller]
pub(crate) fn compile(dir: &TestDir, source: &Path, link: Link, more: &[&str]) -> PathBuf {
    compile_by("cc", "-std=c11", dir, source, link, more)
}

#[track_caller]
fn compile_by(compiler: &str, standard: &str, dir: &TestDir, source: &Path, link: Link, more: &[&str]) -> PathBuf {
    let built = Built::get();
    let program = dir.join(format!("{}-{link:?}", source.file_stem().unwrap().to_str().unwrap()));
    let mut command = Command::new(compiler);
    command.args([standard, "-g"]).args(STRICT).args(more).arg("-I").arg(Path::new(ROOT).join("include"));
    command.arg("-o").arg(&program).arg(source);
    match link {
        Link::Static | Link::WhollyStatic => {
            command.arg(built.dir.join("libawrite.a")).args(built.native_libs.split_whitespace())
        }
        Link::Shared => {
            let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
            rpath.push(&built.dir);
            command.arg(rpath).arg("-L").arg(&built.dir).args(["-lawrite", "-lpthread"])
        }
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    program
}

pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/c").join(name)
}

/// Compares what is recorded in the repository; `AWRITE_BLESS=1` records it anew.
#[track_caller]
fn assert_recorded(path: &str, now: &str) {
    let path = Path::new(ROOT).join(path);
    if env::var_os("AWRITE_BLESS").is_some_and(|v| v == "1") {
        fs::write(&path, now).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let differs = recorded.lines().zip(now.lines()).find(|(recorded, now)| recorded != now);
    assert!(recorded == now, "{} is not up to date (AWRITE_BLESS=1 rewrites it): {differs:?}", path.display());
}

#[test]
fn the_header_is_what_the_build_makes() {
    assert_recorded("include/awrite.h", &Built::get().header);
}

#[test]
fn the_header_compiles_by_itself_in_every_dialect() {
    let header = Path::new(ROOT).join("include/awrite.h");
    for dialect in dialects() {
        for file in [header.clone(), source("dialect.c")] {
            let done = dialect.check(&file, &[]);
            assert!(done.status.success(), "{dialect:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
}

/// C++ knows no other flags than a member's own; C warns. A result that matters may not be ignored.
#[test]
fn the_compiler_refuses_wrong_flags_and_ignored_results() {
    let Some(c) = dialects().into_iter().find(|dialect| dialect.standard == "-std=c11") else { unreachable!() };
    let cxx = dialects().into_iter().find(|dialect| dialect.standard == "-std=c++98");
    for (define, said) in [("-DWRONG_FAMILY", "awrite_lock_flags"), ("-DIGNORED", "awrite_write")] {
        for dialect in std::iter::once(&c).chain(&cxx) {
            let done = dialect.check(&source("dialect.c"), &[define]);
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert!(!done.status.success() && stderr.contains(said), "{dialect:?} {define}: {stderr}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Dialect {
    compiler: &'static str,
    language: &'static str,
    standard: &'static str,
}

impl Dialect {
    fn check(self, file: &Path, more: &[&str]) -> std::process::Output {
        let mut command = Command::new(self.compiler);
        command.args(["-c", "-o", "/dev/null", self.standard]).args(STRICT).args(["-Wconversion", "-Wsign-conversion"]);
        command.args(["-Wshadow", "-Wundef", "-Wmissing-field-initializers", "-Wenum-conversion"]);
        if self.language == "c++" {
            command.args(["-Wold-style-cast", "-Wzero-as-null-pointer-constant"]);
        }
        command.args(more).arg("-I").arg(Path::new(ROOT).join("include")).args(["-x", self.language]).arg(file);
        command.output().unwrap()
    }
}

fn dialects() -> Vec<Dialect> {
    let c = ["-std=c89", "-std=c99", "-std=c11", "-std=c17", "-std=c2x"];
    let cxx = ["-std=c++98", "-std=c++11", "-std=c++14", "-std=c++17", "-std=c++20"];
    let mut dialects: Vec<_> =
        c.map(|standard| Dialect { compiler: "cc", language: "c", standard }).into_iter().collect();
    if needs("c++") {
        dialects.extend(cxx.map(|standard| Dialect { compiler: "c++", language: "c++", standard }));
    }
    dialects
}

/// Programs notice a change here. Names may be added, and members at the end of a struct that begins with its size. Any
/// other change makes another ABI and needs another SONAME. The recorded sizes and offsets are those of 64-bit systems.
#[test]
fn the_abi_is_the_one_recorded() {
    let dir = TestDir::new();
    let header = fs::read_to_string(Path::new(ROOT).join("include/awrite.h")).unwrap();
    let declared = Declared::read(&header);
    let program = dir.file("layout.c", declared.layout_program());
    let program = compile(&dir, &program, Link::Static, &[]);
    let layout = dir.program(program, [""; 0]).run();
    layout.ok();
    let title = "# The C ABI: functions, constants, and the layout of structs on 64-bit systems.";
    let now = format!("{title}\n{}\n{}", declared.functions.join("\n"), layout.stdout);
    if cfg!(not(target_pointer_width = "64")) {
        let names = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains(" size ")).map(str::to_owned).collect()
        };
        let recorded = fs::read_to_string(Path::new(ROOT).join("tests/c/abi.txt")).unwrap();
        return assert_eq!(names(&recorded), names(&now));
    }
    assert_recorded("tests/c/abi.txt", &now);
    // Nobody sets the bytes of a gap, and a later version might read them.
    let mut expected = 0;
    for line in layout.stdout.lines().filter(|line| line.contains('.')) {
        let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(numbers[0] == 0 || numbers[0] == expected, "a gap before {line}");
        expected = numbers[0] + numbers[1];
    }
}

/// What a header declares.
#[derive(Default)]
struct Declared {
    functions: Vec<String>,
    constants: Vec<String>,
    structs: Vec<(String, Vec<String>)>,
}

impl Declared {
    /// cbindgen has written the header, so its lines have few forms.
    fn read(header: &str) -> Declared {
        let mut code = String::new();
        let mut rest = header;
        while let Some((before, comment)) = rest.split_once("/*") {
            code.push_str(before);
            rest = comment.split_once("*/").unwrap().1;
        }
        code.push_str(rest);
        // What comes then is for C++ only, and inline.
        let code = code
            .split("#define AWRITE_OR_FLAGS_")
            .next()
            .unwrap()
            .replace("\nAWRITE_NODISCARD\n", "\n")
            .replace("\\\n", "");

        let mut declared = Declared::default();
        let mut members = None;
        for line in code.lines().map(str::trim) {
            if let Some(constant) = line.strip_prefix("#define ") {
                let name = constant.split(' ').next().unwrap();
                let other =
                    ["AWRITE_H", "AWRITE_NODISCARD", "AWRITE_UINT32_"].contains(&name) || name.ends_with("_INIT");
                if !other && !name.starts_with("AWRITE_VERSION") {
                    declared.constants.push(name.to_owned());
                }
            } else if line.starts_with("typedef struct ") && line.ends_with('{') {
                members = Some(Vec::new());
            } else if let Some(name) = line.strip_prefix("} ").and_then(|line| line.strip_suffix(';')) {
                if let Some(members) = members.take() {
                    declared.structs.push((name.to_owned(), members));
                }
            } else if let (Some(members), Some(member)) = (&mut members, line.strip_suffix(';')) {
                let name = member.rsplit([' ', '*']).next().unwrap().split('[').next().unwrap();
                members.push(name.to_owned());
            } else if let Some((name, _)) = line.split_once(" = ") {
                declared.constants.push(name.to_owned());
            }
        }
        let text = code.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
        for statement in text.split(';') {
            let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            if statement.contains("awrite_") && statement.ends_with(')') {
                declared.functions.push(statement.trim_start_matches("extern \"C\" { ").to_owned());
            }
        }
        declared
    }

    /// A program that says the value of each constant, and where each member is.
    fn layout_program(&self) -> String {
        let mut text = "#include <stdio.h>\n#include \"awrite.h\"\nint main(void)\n{\n".to_owned();
        for name in &self.constants {
            writeln!(text, "    printf(\"{name} %d\\n\", (int){name});").unwrap();
        }
        for (name, members) in &self.structs {
            writeln!(text, "    printf(\"{name} size %zu\\n\", sizeof({name}));").unwrap();
            for member in members {
                writeln!(
                    text,
                    "    printf(\"{name}.{member} offset %zu size %zu\\n\", offsetof({name}, {member}), \
                     sizeof((({name} *)0)->{member}));"
                )
                .unwrap();
            }
        }
        text + "    return 0;\n}\n"
    }
}

#[test]
fn the_shared_library_exports_what_the_header_declares_and_nothing_else() {
    if !needs("nm") || !needs("readelf") {
        return;
    }
    let library = Built::get().dir.join("libawrite.so");
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(&library).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let symbols = output("nm", &["-D", "--defined-only"]);
    let mut exported: Vec<&str> = symbols.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    let header = fs::read_to_string(Path::new(ROOT).join("include/awrite.h")).unwrap();
    let declared = Declared::read(&header);
    let mut functions: Vec<&str> = declared
        .functions
        .iter()
        .filter(|function| !function.starts_with("typedef"))
        .map(|function| function.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap())
        .collect();
    exported.sort_unstable();
    functions.sort_unstable();
    assert_eq!(exported, functions);
    assert!(output("readelf", &["-d"]).contains("soname: [libawrite.so.1]"));
    // Debian's record of when each came.
    let symbols = fs::read_to_string(Path::new(ROOT).join("pkg/debian/libawrite1.symbols")).unwrap();
    let names =
        symbols.lines().filter_map(|line| line.strip_prefix(' ')?.split_once("@LIBAWRITE_1 ")).map(|(name, _)| name);
    assert_eq!(names.filter(|name| *name != "LIBAWRITE_1").collect::<Vec<_>>(), functions);
}

#[test]
fn every_function_right_and_wrong() {
    let programs = TestDir::new();
    for link in [Link::Static, Link::Shared] {
        for name in ["api.c", "behave.c", "content.c"] {
            let program = compile(&programs, &source(name), link, &["-pthread"]);
            TestDir::new().program(program, [""; 0]).quiet_success();
        }
    }
}

/// Cleanly, since no exception can pass through Rust: the lock is given back, and no temporary file is left.
#[test]
fn a_cpp_exception_in_a_callback_aborts_and_leaves_nothing() {
    if !needs("c++") {
        return;
    }
    let programs = TestDir::new();
    let program = compile_by("c++", "-std=c++17", &programs, &source("throw.cc"), Link::Shared, &[]);
    for call in ["update", "check", "notice"] {
        let dir = TestDir::new();
        dir.file("f", "old");
        // Whose notice says that it keeps the old content.
        fs::hard_link(dir.join("f"), dir.join("linked")).unwrap();
        let done = dir.program(&program, [call]).run();
        assert_eq!(done.signal, Some(libc::SIGABRT), "{call}: {done:?}");
        assert_eq!(dir.read("f"), "old");
        assert_no_debris(dir.path(), &["f", "linked"]);
    }
}

#[test]
fn no_leak_and_no_bad_access_under_valgrind() {
    if !needs("valgrind") || !needs_full() {
        return;
    }
    let programs = TestDir::new();
    for name in ["api.c", "behave.c", "content.c", "panic.c"] {
        let program = compile(&programs, &source(name), Link::Static, &[]);
        // Memory that std keeps for each thread is "possibly lost".
        let args = ["--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=definite,indirect"];
        let args = args.into_iter().chain(["--errors-for-leak-kinds=definite,indirect", program.to_str().unwrap()]);
        let done = TestDir::new().program("valgrind", args).env("RUST_BACKTRACE", "0").run();
        done.ok();
        assert!(name == "panic.c" || done.stderr.is_empty(), "{done:?}");
    }
}

/// The program of pkg/doc/library.md: valgrind has nothing to say, with its own defaults.
#[test]
fn valgrind_is_silent_about_a_plain_program() {
    if !needs("valgrind") || !needs_full() {
        return;
    }
    let (programs, dir) = (TestDir::new(), TestDir::new());
    let text = "#include <awrite.h>\n#include <stdio.h>\nint main(void)\n{\n    \
                if (awrite_write(\"f\", \"text\", 4, NULL, NULL) != AWRITE_OK)\n        \
                fprintf(stderr, \"%s\\n\", awrite_last_error());\n    return 0;\n}\n";
    let program = compile(&programs, &programs.file("plain.c", text), Link::Shared, &[]);
    let args = ["--quiet", "--error-exitcode=9", "--leak-check=full", program.to_str().unwrap()];
    dir.program("valgrind", args).quiet_success();
    assert_eq!(dir.read("f"), "text");
}

/// With the suppressions that are shipped, which leave out the library's own code.
#[test]
fn tools_that_look_for_races_find_none() {
    if !needs_full() {
        return;
    }
    let programs = TestDir::new();
    let file = |name: &str| Path::new(ROOT).join("pkg/doc").join(name).display().to_string();
    if needs("valgrind") {
        let program = compile(&programs, &source("threads.c"), Link::Shared, &["-pthread"]);
        let suppressions = format!("--suppressions={}", file("helgrind.supp"));
        let args = ["--tool=helgrind", "--quiet", "--error-exitcode=9", &suppressions, program.to_str().unwrap()];
        TestDir::new().program("valgrind", args).quiet_success();
    }
    let program = compile(&programs, &source("threads.c"), Link::Shared, &["-pthread", "-fsanitize=thread"]);
    // ThreadSanitizer cannot have its memory everywhere that the kernel may put a program.
    if needs("setarch") {
        TestDir::new()
            .program("setarch", ["-R".as_ref(), program.as_os_str()])
            .env("TSAN_OPTIONS", format!("suppressions={}", file("tsan.supp")))
            .quiet_success();
    }
}

#[test]
fn no_bad_access_with_sanitizers() {
    let programs = TestDir::new();
    // The library itself is not instrumented. The sanitizers check what C passes to it, and the heap that both use.
    for name in ["api.c", "behave.c", "content.c"] {
        let program = compile(&programs, &source(name), Link::Static, &["-fsanitize=address,undefined"]);
        // valgrind looks for leaks. To look for them here, all threads would be stopped by ptrace(2) at the end.
        TestDir::new().program(program, [""; 0]).env("ASAN_OPTIONS", "detect_leaks=0").quiet_success();
    }
}

#[test]
fn a_full_disk_is_an_error_and_changes_nothing() {
    if !needs_mount() {
        return;
    }
    let (programs, dir) = (TestDir::new(), TestDir::new());
    let program = compile(&programs, &source("full.c"), Link::Shared, &[]);
    let at = dir.dir("full");
    let _mount = Mount::tmpfs("size=256k,nr_inodes=20", &at);
    dir.program(program, [""; 0]).current_dir(&at).quiet_success();
    assert_no_debris(&at, &["f"]);
}

/// A directory whose sync fails is an error. A file system that cannot sync directories is a warning.
#[test]
fn what_may_not_be_durable_is_told() {
    if !needs_strace() {
        return;
    }
    let (programs, dir) = (TestDir::new(), TestDir::new());
    let hold = compile(&programs, &source("hold.c"), Link::Shared, &[]);
    let count_with = |fault: &str| {
        let inject = format!("inject=fsync:{fault}");
        let strace = ["-o", "/dev/null", "-e", "trace=fsync", "-e", &inject, hold.to_str().unwrap(), "n", "1"];
        dir.program("strace", strace).run()
    };
    // The first one is the file's.
    let done = count_with("error=EIO:when=2");
    done.assert_code(8);
    assert_eq!(done.stderr, "n: replaced, but not known to be durable: Input/output error\n");
    assert_eq!(dir.read("n"), "1\n");

    let done = count_with("error=EINVAL:when=2");
    assert!(done.ok().stderr.starts_with("n: this file system cannot sync a directory"), "{done:?}");
    assert_eq!(dir.read("n"), "2\n");

    let done = count_with("error=EIO:when=1");
    done.assert_code(1);
    assert_eq!(dir.read("n"), "2\n");
    dir.assert_holds(&["n"]);
}

#[test]
fn what_housekeeping_cannot_delete_is_an_error_at_the_end() {
    if !needs_strace() {
        return;
    }
    let (programs, dir) = (TestDir::new(), TestDir::new());
    let program = compile(&programs, &Path::new(ROOT).join("examples/housekeep.c"), Link::Shared, &[]);
    for name in ["a", "a.lock", "b", "b.lock"] {
        dir.file(name, "");
    }
    let strace = ["-o", "/dev/null", "-e", "trace=renameat", "-e", "inject=renameat:error=EIO:when=1"];
    let done = dir.program("strace", strace.into_iter().chain([program.to_str().unwrap(), "."])).run();
    done.assert_code(1);
    let left = if dir.join("a.lock").exists() { "a.lock" } else { "b.lock" };
    let mut names = ["a", "b", left];
    names.sort_unstable();
    dir.assert_holds(&names);
    // The callback gets the error when it happens, and awrite_last_error() has it again at the end.
    let line = format!("housekeep: ./{left}: Input/output error\n");
    assert_eq!(done.stderr, line.repeat(2));
}

#[test]
fn a_panic_is_a_status_and_leaves_nothing_behind() {
    let programs = TestDir::new();
    for link in [Link::Static, Link::Shared] {
        let program = compile(&programs, &source("panic.c"), link, &[]);
        let done = TestDir::new().program(program, [""; 0]).env("RUST_BACKTRACE", "0").run();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.contains("panicked at"), "{done:?}");
    }
}

#[test]
fn a_c_program_and_the_commands_exclude_each_other() {
    let dir = TestDir::new();
    let programs = TestDir::new();
    let hold = compile(&programs, &source("hold.c"), Link::Shared, &[]);

    let mut holder = dir.program(&hold, ["f"]).stdin_open().spawn();
    holder.wait_for_stderr("held");
    dir.awrite(["-n", "f"]).stdin("x").run().assert_error(2, "Error: f: File locked by another process");
    dir.awrite(["lock", "-n", "f", "--", "true"]).run().assert_code(2);
    dir.program(&hold, ["f"]).run().assert_code(2);
    // Who waits gets it when it is given back.
    let mut waiter = dir.awrite(["f"]).stdin("waited").spawn();
    waiter.wait_for_waiting();
    holder.finish().ok();
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "waited");

    let mut command = dir.awrite(["lock", "f", "--", "sh", "-c", "echo held >&2; cat"]).stdin_open().spawn();
    command.wait_for_stderr("held");
    let refused = dir.program(&hold, ["f"]).run();
    refused.assert_code(2);
    assert!(refused.stderr.starts_with("f: File locked by another process"), "{refused:?}");
    command.finish().ok();
    dir.program(&hold, ["f"]).run().ok();
    dir.assert_holds(&["f"]);
}

/// The lock file is kept: flock(1) does not check whether the file it has locked is still there.
#[test]
fn a_c_program_and_plain_flock_exclude_each_other() {
    if !needs("flock") {
        return;
    }
    let dir = TestDir::new();
    let programs = TestDir::new();
    let program = compile(&programs, &source("hold.c"), Link::Shared, &[]);
    let hold = || dir.program(&program, ["f"]).env("AWRITE_KEEP_LOCK", "1");

    let mut holder = hold().stdin_open().spawn();
    holder.wait_for_stderr("held");
    dir.program("flock", ["-n", "f.lock", "true"]).run().assert_code(1);
    holder.finish().ok();
    dir.assert_holds(&["f.lock"]);
    let mut other = dir.program("flock", ["f.lock", "sh", "-c", "echo held >&2; cat"]).stdin_open().spawn();
    other.wait_for_stderr("held");
    hold().run().assert_code(2);
    other.finish().ok();
    hold().run().ok();
    dir.assert_holds(&["f.lock"]);
}

#[test]
fn c_programs_and_commands_lose_no_update_of_each_other() {
    const ROUNDS: usize = 20;
    let dir = TestDir::new();
    let programs = TestDir::new();
    let hold = compile(&programs, &source("hold.c"), Link::Static, &[]);
    let script = format!(
        "i=0; while [ $i -lt {ROUNDS} ]; do i=$((i+1)); {AWRITE} n -- sh -c 'read n; echo $((n+1))' || exit; done"
    );
    let rounds = ROUNDS.to_string();
    let mut running: Vec<_> =
        (0..3).flat_map(|_| [dir.program(&hold, ["n", &rounds]).spawn(), dir.sh(&script).spawn()]).collect();
    wait_until("all have counted", || running.iter_mut().all(|one| one.has_ended()));
    for one in running {
        one.finish().ok();
    }
    assert_eq!(dir.read("n"), format!("{}\n", 6 * ROUNDS));
    dir.assert_holds(&["n"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// As installed

/// What `make install` installs, below a directory.
fn installed() -> Option<&'static Path> {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    // Builds the command again.
    if !needs("make") || !needs("pkg-config") || !needs_full() {
        return None;
    }
    Some(IMAGE.get_or_init(|| {
        // Not a TestDir: a static is never dropped.
        let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
        let _ = fs::remove_dir_all(&image);
        make_install(&image, Path::new(env!("CARGO")));
        image
    }))
}

#[track_caller]
fn make_install(image: &Path, cargo: &Path) {
    let set = |name: &str, value: &Path| format!("{name}={}", value.display());
    let output = Command::new("make")
        .current_dir(Path::new(ROOT).join("pkg"))
        .args(["-s", "install", "PREFIX=/usr", "PROFILE=dev"])
        .args([set("DESTDIR", image), set("TARGET_DIR", &target_dir()), set("CARGO", cargo)])
        .env(LESS_DEBUG.0, LESS_DEBUG.1)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn make_installs_all_of_it() {
    let Some(image) = installed() else { return };
    for (path, mode) in [
        ("bin/awrite", 0o755),
        ("include/awrite.h", 0o644),
        ("lib/libawrite.a", 0o644),
        ("lib/libawrite.so.1.0.0", 0o755),
        ("lib/pkgconfig/awrite.pc", 0o644),
        ("share/man/man1/awrite-lock.1", 0o644),
        ("share/man/man3/awrite.3", 0o644),
        ("share/man/man7/awrite.7", 0o644),
        ("share/bash-completion/completions/awrite", 0o644),
    ] {
        let meta = fs::metadata(image.join("usr").join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path}");
    }
    for (link, to) in [
        ("bin/atomic-write", "awrite"),
        ("bin/awrite-lock", "awrite"),
        ("bin/awrite-housekeep", "awrite"),
        ("lib/libawrite.so", "libawrite.so.1"),
        ("lib/libawrite.so.1", "libawrite.so.1.0.0"),
    ] {
        assert_eq!(fs::read_link(image.join("usr").join(link)).unwrap(), Path::new(to), "{link}");
    }
    for name in ["awrite_write", "awrite_lock_acquire", "awrite_writer_commit", "awrite_free"] {
        let page = image.join(format!("usr/share/man/man3/{name}.3"));
        assert_eq!(fs::read_link(page).unwrap(), Path::new("awrite.3"));
    }
    let pc = fs::read_to_string(image.join("usr/lib/pkgconfig/awrite.pc")).unwrap();
    assert!(!pc.contains('@') && pc.contains(env!("CARGO_PKG_VERSION")), "{pc}");
    assert!(pc.starts_with("prefix=/usr\nincludedir=${prefix}/include\nlibdir=${prefix}/lib\n"), "{pc}");
    let private = format!("Libs.private: {}", Built::get().native_libs.trim().replace("-lgcc_s", "-lgcc_eh"));
    assert!(private.contains("-lc") && pc.lines().any(|line| line == private), "{pc}");
    if needs("nm") {
        let library = image.join("usr/lib/libawrite.a");
        let output = Command::new("nm").args(["-g", "--defined-only"]).arg(library).output().unwrap();
        let globals = String::from_utf8(output.stdout).unwrap();
        let ours = globals.lines().filter(|line| line.contains(" T awrite_")).count();
        let all = globals.lines().filter(|line| line.contains(' ')).count();
        assert!(ours > 30 && ours == all, "{globals}");
        let library = image.join("usr/lib/libawrite.so");
        let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().unwrap();
        let symbols = String::from_utf8(output.stdout).unwrap();
        let versioned = |line: &str| line.ends_with("@@LIBAWRITE_1") || line.ends_with(" A LIBAWRITE_1");
        assert!(symbols.lines().count() == ours + 1 && symbols.lines().all(versioned), "{symbols}");
    }
}

/// As with `make && sudo make install`, where root has no cargo.
#[test]
fn what_was_built_before_is_installed_without_cargo() {
    let Some(image) = installed() else { return };
    let again = TestDir::new();
    make_install(again.path(), Path::new("no-such-cargo"));
    for path in ["bin/awrite", "include/awrite.h", "lib/libawrite.so.1.0.0", "lib/pkgconfig/awrite.pc"] {
        let path = Path::new("usr").join(path);
        assert!(fs::read(again.join(&path)).unwrap() == fs::read(image.join(&path)).unwrap(), "{}", path.display());
    }
}

/// As with `CARGO_TARGET_DIR=… make && sudo make install`: sudo takes the variable away, and root has no cargo.
#[test]
fn root_finds_what_was_built_elsewhere() {
    if installed().is_none() {
        return;
    }
    let tree = TestDir::new();
    for part in ["pkg", "include", "tests", "Cargo.toml"] {
        std::os::unix::fs::symlink(Path::new(ROOT).join(part), tree.join(part)).unwrap();
    }
    // make goes where the link leads, so the Makefile itself is copied.
    fs::remove_file(tree.join("pkg")).unwrap();
    let pkg = tree.dir("pkg");
    for entry in fs::read_dir(Path::new(ROOT).join("pkg")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == "Makefile" {
            fs::copy(entry.path(), pkg.join("Makefile")).unwrap();
        } else {
            std::os::unix::fs::symlink(entry.path(), pkg.join(entry.file_name())).unwrap();
        }
    }
    let make = |args: &[&str]| {
        let mut command = Command::new("make");
        command.current_dir(&pkg).args(["-s", "PROFILE=dev", "CARGO=no-such-cargo", "PREFIX=/usr"]).args(args);
        command.env_remove("CARGO_TARGET_DIR");
        command
    };
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(make(&[]).env("CARGO_TARGET_DIR", target_dir()));
    let image = tree.dir("image");
    run(&mut make(&["install", &format!("DESTDIR={}", image.display())]));
    assert!(image.join("usr/bin/awrite").exists() && image.join("usr/lib/libawrite.a").exists());
}

/// Compiles an example as its users would.
#[track_caller]
fn example(image: &Path, dir: &TestDir, name: &str, link: Link) -> PathBuf {
    let program = dir.join(format!("{name}-{link:?}"));
    let flags = match link {
        Link::Shared => "$(pkg-config --cflags --libs awrite)",
        // -lawrite would mean the shared library.
        Link::WhollyStatic => "-static $(pkg-config --static --cflags --libs awrite)",
        Link::Static => "$(pkg-config --static --cflags --libs awrite | sed 's/-lawrite/-l:libawrite.a/')",
    };
    let script = format!("cc -std=c11 {} \"$1\" {flags} -o \"$2\"", STRICT.join(" "));
    let source = Path::new(ROOT).join("examples").join(format!("{name}.c"));
    let compiled = dir
        .program("sh", ["-c".as_ref(), script.as_ref(), "sh".as_ref(), source.as_os_str(), program.as_os_str()])
        .env("PKG_CONFIG_SYSROOT_DIR", image)
        .env("PKG_CONFIG_LIBDIR", image.join("usr/lib/pkgconfig"))
        .run();
    // ld warns of what glibc loads at run time, by which std finds users and hosts.
    assert!(compiled.ok().stderr.is_empty() || matches!(link, Link::WhollyStatic), "{compiled:?}");
    program
}

#[test]
fn the_examples_in_c_do_what_they_say() {
    let Some(image) = installed() else { return };
    let programs = TestDir::new();
    for link in [Link::Shared, Link::Static, Link::WhollyStatic] {
        let dir = TestDir::new();
        let run = |name: &str, args: &[&str]| {
            let program = example(image, &programs, name, link);
            dir.program(program, args).env("LD_LIBRARY_PATH", image.join("usr/lib")).run()
        };
        let said = |name: &str, args: &[&str]| {
            let done = run(name, args);
            assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{name}");
            done.stdout
        };

        assert_eq!(said("config", &["etc/app", "a=1"]), "etc/app: 3 bytes\n");
        assert_eq!(said("config", &["etc/app", "a=1"]), "etc/app: unchanged\n");
        assert_eq!(said("config", &["etc/app", "a=12"]), "etc/app: 4 bytes, before that: etc/app.backup\n");
        assert_eq!(dir.read("etc/app.backup"), "a=1");

        assert_eq!(said("counter", &["n", "5"]), "");
        assert_eq!(said("counter", &["n", "-7"]), "");
        assert_eq!(dir.read("n"), "-2\n");
        dir.file("text", "text");
        run("counter", &["text", "1"]).assert_code(6);
        assert_eq!(dir.read("text"), "text");

        dir.file("text.index", " and index");
        assert_eq!(said("lock", &["text"]), "text and index");

        dir.file("log", "one\ntwo\nthree\n");
        let told = said("rotate", &["log", "11"]);
        assert!(told.starts_with("log: 10 bytes, the whole is in log."), "{told}");
        assert_eq!(dir.read("log"), "two\nthree\n");

        dir.file("b", "two");
        assert_eq!(said("set", &["a", "one", "b", "two"]), "a: replaced\nb: unchanged\n");
        assert_eq!((dir.read("a"), dir.read("b")), ("one".into(), "two".into()));
        run("set", &["a", "x", "missing/b", "y"]).assert_code(1);
        assert_eq!(dir.read("a"), "one");

        assert_eq!(said("lease", &["work", "me"]), "work is leased by me\n");
        assert_eq!(dir.read("work"), "step 1\nstep 2\nstep 3\n");

        dir.file("etc/left", "");
        dir.file("etc/left.lock", "");
        let told = said("housekeep", &["."]);
        assert_eq!(told, "deleted ./etc/left.lock\n1 lock files, 0 temporary files, 0 backups\n");
        run("housekeep", &["missing"]).assert_code(1);
    }
}

/// Python calls the shared library without a header.
#[test]
fn python_can_use_it() {
    if !needs("python3") {
        return;
    }
    let library = Built::get().dir.join("libawrite.so");
    let script = source("interop.py");
    let (dir, bin) = (TestDir::new(), TestDir::new());
    for (name, program) in [
        ("awrite", AWRITE),
        ("awrite-lock", AWRITE),
        ("awrite-store-dir", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/awrite-store-dir")),
    ] {
        std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
    }
    let path = format!("{}:{}", bin.path().display(), env::var("PATH").unwrap());
    dir.program("python3", [script.as_os_str(), library.as_os_str()]).env("PATH", path).quiet_success();
}
