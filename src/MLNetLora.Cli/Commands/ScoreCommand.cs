using System.CommandLine;
using System.Globalization;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;
using MLNetLora.Cli.Scoring;

namespace MLNetLora.Cli.Commands;

/// <summary>score: answers many rows, in several processes, and again and again until all are done.</summary>
internal static class ScoreCommand
{
    private const string ShardPlace = "{shard}";

    private const string Description = """
        Answers the rows of files into a file, however many they are, and goes on where it was when it is begun again.

        A line of JSON for each row: its number (row), its own fields, answer, finish_reason and token counts; or error, for a row that cannot be asked, and the
        others go on. A process that was killed is begun again with the same command. Several processes take shards, here or on other machines; {shard} in --out
        is the shard's number.

        Examples:
          mlnetlora score --model out/company/model.zip --in rows.jsonl --out answers.jsonl
          mlnetlora score --model out/company/model.zip --in rows.jsonl --out 'answers-{shard}.jsonl' --shard 0/4
          mlnetlora score --model out/company/model.zip --in rows.jsonl --out 'answers-{shard}.jsonl' --shard 16      in a job array of Kubernetes or Slurm
          mlnetlora score --join answers-*.jsonl --out answers.jsonl
        """;

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("score", Description, CommandKinds.Generate);
        Option<string?> from = new("--in") { Description = "File or pattern of rows to answer, in any format that training reads", HelpName = "FILE" };
        Option<string> to = new("--out") { Description = "File for the answers; has its name when all are there", HelpName = "FILE", Required = true };
        Option<string?> shard = new("--shard")
        {
            Description = "Of every N rows the one with number I, from 0; N alone: I is JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID",
            HelpName = "I/N",
        };
        Option<string[]> join = new("--join")
        {
            Description = "Puts the answers of all shards into --out, in the order of the rows",
            HelpName = "FILE",
            AllowMultipleArgumentsPerToken = true,
            Arity = ArgumentArity.OneOrMore,
        };
        Option<bool> overwrite = new("--overwrite") { Description = "Begins anew, whatever is there" };
        foreach (Option option in (Option[])[from, to, shard, join, overwrite])
        {
            command.Options.Add(option);
        }

        command.SetAction((parsed, _) => Task.Run(() =>
        {
            string target = parsed.GetValue(to)!;
            bool isNew = parsed.GetValue(overwrite);
            if (parsed.GetValue(join) is { Length: > 0 } parts)
            {
                if (parsed.GetValue(from) is not null || parsed.GetValue(shard) is not null)
                {
                    throw new ConfigException("--join puts answers together that are there; --in and --shard must go.");
                }

                AnswerRun.RequireTarget(target);
                return ScoreJoin.Run(screen, parts, target, isNew);
            }

            if (parsed.GetValue(from) is not { } path)
            {
                throw new ConfigException("There are no rows: give --in, a file or a pattern.");
            }

            Shard own = Shard.Parse(parsed.GetValue(shard), Environment.GetEnvironmentVariable);
            target = target.Replace(ShardPlace, own.Index.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);
            AnswerRun.RequireTarget(target);
            SettingsReader reader = command.Settings.Read(parsed);
            RunSettings settings = reader.Settings();
            TrainingRun.WriteIgnored(screen, reader);
            return new ScoreRun(screen, reader, settings, path, target, own).Run(isNew);
        }));
        return command;
    }
}
