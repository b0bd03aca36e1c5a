# pkg/build/release.sh fills in what stands between two @. Not built by Homebrew, which was not available. Only Ruby has
# read it (pkg/build/homebrew.sh), and the same commands type-check for macOS (pkg/build/check.sh).
class Awrite < Formula
  desc "Replace files all-or-nothing, durably, under a lock"
  homepage "@REPOSITORY@"
  url "@REPOSITORY@/releases/download/v@VERSION@/awrite-@VERSION@.tar.gz"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    bin.install_symlink "awrite" => "atomic-write"
    bin.install_symlink "awrite" => "awrite-lock"
    bin.install_symlink "awrite" => "awrite-housekeep"
    man1.install Dir["pkg/man/*.1"]
    man7.install Dir["pkg/man/*.7"]
    bash_completion.install "pkg/completions/awrite.bash" => "awrite"
    zsh_completion.install "pkg/completions/_awrite"
    fish_completion.install "pkg/completions/awrite.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/awrite --version")
    pipe_output("#{bin}/awrite f", "one\n", 0)
    assert_equal "one\n", (testpath/"f").read
    system bin/"awrite", "f", "--", "sed", "s/one/two/"
    assert_equal "two\n", (testpath/"f").read
    assert_equal "held\n", shell_output("#{bin}/awrite-lock f -- echo held")
    refute_path_exists testpath/"f.lock"
  end
end
