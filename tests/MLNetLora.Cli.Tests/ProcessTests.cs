using System.Diagnostics;
using System.Text;
using MLNetLora.Tests;
using MLNetLora.Training;

namespace MLNetLora.Cli.Tests;

/// <summary>The command as a process of its own: signals, exit codes, pipes, completion.</summary>
public sealed class ProcessTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [LinuxTheory]
    [InlineData("-INT", ExitCode.Interrupted)]
    [InlineData("-TERM", ExitCode.Terminated)]
    public async Task A_signal_ends_a_training_with_what_was_learned(string signal, int expected)
    {
        using Process process = Start(Training(100_000));
        Task<string> error = process.StandardError.ReadToEndAsync();
        while (await process.StandardOutput.ReadLineAsync() is { } line && !line.StartsWith("step 1/", StringComparison.Ordinal))
        {
            // Until the first step is done.
        }

        Task<string> rest = process.StandardOutput.ReadToEndAsync();
        using (Process kill = Process.Start("kill", [signal, process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
        {
            await kill.WaitForExitAsync();
        }

        await process.WaitForExitAsync();
        await rest;
        Assert.Equal(expected, process.ExitCode);
        Assert.False(File.Exists(_folder.At("out/adapter_model.safetensors"))); // it is no result
        int made = RunFolder.Checkpoints(_folder.At("out")).First().Step;
        Assert.Contains("The same command with --resume goes on", await error, StringComparison.Ordinal);

        Outcome resumed = await Cli.Run([.. Training(made + 2), "--resume", "--resume-with-changes"]);
        Assert.Contains(FormattableString.Invariant($"step {made + 1}/{made + 2}"), resumed.Succeeded().Out, StringComparison.Ordinal);
        Assert.True(File.Exists(_folder.At("out/adapter_model.safetensors")));
    }

    private string[] Training(int steps) => ["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out"), "--max-steps", $"{steps}",
        "--rank", "4", "--set", "logging_steps=1", "--threads", "1"];

    [Fact]
    public async Task What_is_piped_in_is_answered_in_UTF_8()
    {
        using Process process = Start(["generate", "-m", Repository.Nano, "--max-new-tokens", "2", "--json"]);
        await process.StandardInput.WriteLineAsync("你好");
        process.StandardInput.Close();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(0, process.ExitCode);
        Assert.Contains("\"instruction\":\"你好\"", output, StringComparison.Ordinal);
        Assert.DoesNotContain('\e', output);
    }

    [LinuxFact]
    public async Task Who_waits_for_a_question_hears_a_signal()
    {
        using Process process = Start(["generate", "-m", Repository.Nano, "--max-new-tokens", "2"]);
        await process.StandardInput.WriteLineAsync("Hello");
        await process.StandardInput.FlushAsync();
        await process.StandardOutput.ReadLineAsync(); // the answer; now it waits for the next
        using (Process kill = Process.Start("kill", ["-TERM", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
        {
            await kill.WaitForExitAsync();
        }

        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(1));
        Assert.Equal(ExitCode.Terminated, process.ExitCode);
    }

    [LinuxTheory]
    [InlineData("chat", "", ExitCode.Usage)]
    [InlineData("generate", "", ExitCode.Usage)]
    [InlineData("generate", "Hello", ExitCode.Success)]
    public async Task Who_has_no_standard_input_is_not_waited_for(string command, string question, int expected)
    {
        using Process process = Process.Start(new ProcessStartInfo("/bin/sh",
            ["-c", $"exec dotnet '{Program}' {command} -m '{Repository.Nano}' --max-new-tokens 2 {question} <&-"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;
        string error = await process.StandardError.ReadToEndAsync().WaitAsync(TimeSpan.FromMinutes(1));
        await process.WaitForExitAsync();
        Assert.Equal(expected, process.ExitCode);
        Assert.Equal(expected == ExitCode.Usage, error.Contains("standard input", StringComparison.Ordinal));
    }

    [LinuxTheory]
    [InlineData("generate -m MODEL --max-new-tokens 2 Hello >&-", ExitCode.Success)]
    [InlineData("trian 2>&-", ExitCode.Usage)]
    [InlineData("trian <&- >&- 2>&-", ExitCode.Usage)]
    [InlineData("train -m MODEL -d DATA -o OUT --max-steps 2 --rank 4 --zip false >/dev/full 2>&1", ExitCode.Success)]
    public async Task Who_cannot_be_told_changes_no_exit_code(string line, int expected)
    {
        line = line.Replace("MODEL", $"'{Repository.Nano}'", StringComparison.Ordinal).Replace("DATA", $"'{Repository.Data}'", StringComparison.Ordinal)
            .Replace("OUT", $"'{_folder.At("out")}'", StringComparison.Ordinal);
        using Process process = Process.Start("/bin/sh", ["-c", $"exec dotnet '{Program}' {line}"]);
        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(1));
        Assert.Equal(expected, process.ExitCode);
        Assert.Equal(line.StartsWith("train ", StringComparison.Ordinal), File.Exists(_folder.At("out/adapter_model.safetensors")));
    }

    [LinuxTheory]
    [InlineData("/dev/null", "a device")]
    [InlineData("/tmp", "a folder")]
    public async Task Answers_go_to_files_alone(string target, string what)
    {
        Outcome run = await Cli.Run("generate", "-m", Repository.Nano, "--in", Repository.Data, "--out", target);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains($"--out is {target}, {what}", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wrong_line_ends_with_2()
    {
        using Process process = Start(["trian"]);
        string error = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(ExitCode.Usage, process.ExitCode);
        Assert.Contains("there is no command trian. The nearest one is train.", error, StringComparison.Ordinal);
    }

    [LinuxFact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public async Task Bash_completes_by_asking_the_command()
    {
        string shim = _folder.Write("mlnetlora", $"#!/bin/bash\nexec dotnet '{Program}' \"$@\"\n");
        File.SetUnixFileMode(shim, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        string script = $$"""
            PATH="{{_folder.Path}}:$PATH"
            eval "$(mlnetlora completion bash)"
            complete_line() {
              COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=($1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
              _mlnetlora; echo "${COMPREPLY[*]}"
            }
            complete_line "mlnetlora tra"
            complete_line "mlnetlora train --rank-p"
            """;
        using Process process = Process.Start(new ProcessStartInfo("/bin/bash", ["-c", script])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true
        })!;
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(["train", "--rank-pattern"], output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [ZshFact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public async Task Zsh_completes_by_asking_the_command()
    {
        string shim = _folder.Write("mlnetlora", $"#!/bin/sh\nexec dotnet '{Program}' \"$@\"\n");
        File.SetUnixFileMode(shim, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        string script = $$"""
            path=("{{_folder.Path}}" $path)
            compdef() { print -- "$*" }
            compadd() { print -l -- "${@[2,-1]}" }
            eval "$(mlnetlora completion zsh)"
            BUFFER="mlnetlora train --rank-p"; CURSOR=${#BUFFER}; words=(${=BUFFER})
            _mlnetlora
            """;
        using Process process = Process.Start(new ProcessStartInfo("zsh", ["-f", "-c", script])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true
        })!;
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(["_mlnetlora mlnetlora", "--rank-pattern"], output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Theory]
    [InlineData("mlnetlora tr", "train")]
    [InlineData("mlnetlora train --bias ", "lora_only")]
    [InlineData("mlnetlora new-checkpoint --size Qwen3.5-0", "Qwen3.5-0.8B")]
    public async Task A_shell_is_told_what_may_follow(string line, string expected) =>
        Assert.Contains(expected, (await Cli.Run($"[suggest:{line.Length}]", line)).Succeeded().Lines);

    [Theory]
    [InlineData("bash", "complete -o default -F _mlnetlora mlnetlora")]
    [InlineData("zsh", "compdef _mlnetlora mlnetlora")]
    [InlineData("pwsh", "Register-ArgumentCompleter -Native -CommandName mlnetlora")]
    public async Task There_is_a_script_for_each_shell(string shell, string expected) =>
        Assert.Contains(expected, (await Cli.Run("completion", shell)).Succeeded().Out, StringComparison.Ordinal);

    [Fact]
    public async Task Another_shell_is_refused() => Assert.Equal(ExitCode.Usage, (await Cli.Run("completion", "fish")).Code);

    private static string Program => typeof(CommandLine).Assembly.Location;

    private static Process Start(string[] arguments)
    {
        UTF8Encoding utf8 = new(encoderShouldEmitUTF8Identifier: false);
        return Process.Start(new ProcessStartInfo("dotnet", [Program, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardInputEncoding = utf8,
            StandardOutputEncoding = utf8,
            StandardErrorEncoding = utf8,
        })!;
    }
}
