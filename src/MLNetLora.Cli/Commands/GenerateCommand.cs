using System.CommandLine;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;

namespace MLNetLora.Cli.Commands;

/// <summary>generate: answers one question, those that are piped in, or the rows of a file.</summary>
internal static class GenerateCommand
{
    private const string Description = """
        Answers a question, the lines that are piped in, or the rows of a file.

        Examples:
          mlnetlora generate --model out/company/model.zip "How do I claim travel expenses?"
          mlnetlora generate --model Qwen/Qwen3-0.6B --adapter out/company --temperature 0.7 "Who may sign orders?"
          mlnetlora generate --model out/company/model.zip --in questions.jsonl --out answers.jsonl
          cat questions.txt | mlnetlora generate --model out/company/model.zip --json
        """;

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("generate", Description, CommandKinds.Generate);
        Argument<string?> prompt = new("PROMPT")
        {
            Arity = ArgumentArity.ZeroOrOne,
            Description = "What is asked; without it, each line of the standard input"
        };
        Option<string?> input = new("--input") { Description = "What the question is about", HelpName = "TEXT" };
        Option<string?> from = new("--in") { Description = "File or pattern of rows to answer, in any format that training reads", HelpName = "FILE" };
        Option<string?> to = new("--out") { Description = "File for the answers, a line of JSON each; replaced when all are there", HelpName = "FILE" };
        Option<bool> json = new("--json") { Description = "Answers as lines of JSON, with finish reason and token counts" };
        command.Arguments.Add(prompt);
        foreach (Option option in (Option[])[input, from, to, json])
        {
            command.Options.Add(option);
        }

        command.SetAction(async (parsed, _) =>
        {
            string? asked = parsed.GetValue(prompt);
            string? file = parsed.GetValue(from);
            string? target = parsed.GetValue(to);
            if (asked is not null && file is not null)
            {
                throw new ConfigException("There is a question and --in; one of them must go.");
            }

            if (target is not null && file is null)
            {
                throw new ConfigException("--out is for the rows of --in.");
            }

            if (target is not null)
            {
                AnswerRun.RequireTarget(target);
            }

            if (asked is null && file is null && screen.IsInteractive)
            {
                throw new ConfigException("There is no question: give one, --in FILE, or pipe some in; 'mlnetlora chat' talks.");
            }

            if (asked is null && file is null && screen.IsInputClosed)
            {
                throw new ConfigException("There is no question, and the standard input, from which some could come, is closed: give one, or --in FILE.");
            }

            SettingsReader reader = command.Settings.Read(parsed);
            RunSettings settings = reader.Settings();
            TrainingRun.WriteIgnored(screen, reader);
            using AnsweringModel model = await Task.Run(() => AnsweringModel.Open(screen, reader, settings));
            AnswerRun run = new(screen, model, parsed.GetValue(json));
            return file is not null ? await Task.Run(() => run.File(file, settings.DataFormat, target))
                : asked is not null ? await run.One(asked, parsed.GetValue(input))
                : await run.Lines(parsed.GetValue(input));
        });
        return command;
    }
}
