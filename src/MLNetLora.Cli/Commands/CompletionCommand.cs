using System.CommandLine;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Commands;

/// <summary>completion: a script that lets a shell complete commands, options and values.</summary>
/// <remarks>The scripts ask the command itself, by System.CommandLine's directive [suggest:POSITION]; nothing else need be installed.</remarks>
internal static class CompletionCommand
{
    private const string Description = """
        Prints a script with which a shell completes commands, options and values.

        Examples:
          bash:  eval "$(mlnetlora completion bash)"        in ~/.bashrc
          zsh:   eval "$(mlnetlora completion zsh)"         in ~/.zshrc, behind compinit
          pwsh:  mlnetlora completion pwsh | Out-String | Invoke-Expression        in $PROFILE
        """;

    private const string Bash = """
        # Completion of mlnetlora for bash.
        _mlnetlora() {
          local word="${COMP_WORDS[COMP_CWORD]}" line
          COMPREPLY=()
          while IFS= read -r line; do
            line="${line%$'\r'}"
            if [[ "$line" == "$word"* ]]; then COMPREPLY+=("$line"); fi
          done < <("${COMP_WORDS[0]}" "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)
        }
        complete -o default -F _mlnetlora mlnetlora
        """;

    private const string Zsh = """
        # Completion of mlnetlora for zsh.
        _mlnetlora() {
          local -a found
          found=("${(@f)$("${words[1]}" "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
          found=("${(@)found:#}")
          compadd -- "${found[@]}" || _files
        }
        compdef _mlnetlora mlnetlora
        """;

    private const string Pwsh = """
        # Completion of mlnetlora for PowerShell.
        Register-ArgumentCompleter -Native -CommandName mlnetlora -ScriptBlock {
          param($wordToComplete, $commandAst, $cursorPosition)
          $line = $commandAst.ToString().PadRight($cursorPosition)
          mlnetlora "[suggest:$cursorPosition]" "$line" 2>$null | Where-Object { $_ -like "$wordToComplete*" } | ForEach-Object {
            [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
          }
        }
        """;

    public static Command Create(Screen screen)
    {
        Argument<string> shell = new("SHELL") { Description = "bash, zsh or pwsh" };
        shell.CompletionSources.Add("bash", "zsh", "pwsh");
        Command command = new("completion", Description) { shell };
        command.SetAction(parsed =>
        {
            string script = Values.OneOf(
                new Given(shell.Name, new ScalarValue(parsed.GetValue(shell)!, IsQuoted: false, Place.CommandLine)), ("bash", Bash), ("zsh", Zsh), ("pwsh", Pwsh));
            screen.Out.Write(script.ReplaceLineEndings("\n") + "\n");
            return ExitCode.Success;
        });
        return command;
    }
}
