using System.CommandLine;
using System.Diagnostics;
using System.Reflection;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.ML;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training.Planning;

namespace MLNetLora.Cli.Commands;

/// <summary>plan: what a training would take, and which options fit.</summary>
internal static class PlanCommand
{
    private const string ProbeName = "plan-probe";
    private const string Description = """
        Says how much memory and time a training would take on this machine, and which other options would take less: trains a few of its micro-batches on a few
        layers of the model, and extrapolates. Writes nothing.

        Examples:
          mlnetlora plan run.yaml
          mlnetlora plan --model Qwen/Qwen3-0.6B --data company_data.json --batch-size 4
          mlnetlora plan --model Qwen/Qwen3-0.6B --rows 1000 --length 512 --json
        """;

    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        NewLine = "\n",
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("plan", Description, CommandKinds.Train);
        Argument<string?> config = TrainCommand.ConfigArgument();
        Option<int?> rows = new("--rows") { Description = "Number of rows, in place of data", HelpName = "N" };
        Option<int?> length = new("--length") { Description = "Tokens of each of them, half of them learned; by default the maximum length", HelpName = "N" };
        Option<bool> only = new("--asked-only") { Description = "Leaves other options out" };
        Option<bool> json = new("--json") { Description = "As JSON" };
        command.Arguments.Add(config);
        foreach (Option option in (Option[])[rows, length, only, json])
        {
            command.Options.Add(option);
        }

        command.SetAction((parsed, _) => Task.Run(() =>
        {
            SettingsReader reader = command.Settings.Read(parsed, TrainCommand.Files(parsed, config));
            RunSettings settings = reader.Settings();
            TrainingRun.Prepare(settings);
            settings.Training.CancellationToken = screen.Interruption.Token;
            settings.Training.Seed ??= 42;
            PlannedRun run = Run(settings, parsed.GetValue(rows), parsed.GetValue(length)) with
            {
                BytesBefore = PeakMemory.Now(),
                SecondsBefore = (DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds,
            };
            Planner planner = new(new ProbeProcess([.. Self(), ProbeName]).Measure, message => screen.Error.WriteLine($"measuring {message}"));
            PlanReport report = new(settings.Training.ModelPath, run.Checkpoint.Config.NumHiddenLayers, planner.Plan(run, screen.Interruption.Token));
            if (!parsed.GetValue(json))
            {
                report.WriteAsked(screen);
            }

            if (!parsed.GetValue(only))
            {
                report = report with { Others = [.. planner.Alternatives(run, screen.Interruption.Token)] };
            }

            if (parsed.GetValue(json))
            {
                screen.Out.WriteLine(report.ToJson().ToJsonString(s_json));
            }
            else
            {
                report.WriteOthers(screen);
            }

            return ExitCode.Success;
        }));
        return command;
    }

    /// <summary>The command that a plan starts in processes of their own.</summary>
    public static Command CreateProbe(Screen screen)
    {
        Command command = new(ProbeName, "Measures for plan: reads what from its input.") { Hidden = true };
        command.SetAction((_, _) => Task.Run(() =>
        {
            string request = screen.In.ReadLine() ?? throw new ConfigException($"{ProbeName} is for plan, which writes to its input.");
            screen.Out.WriteLine(RunProbe.Measure(ProbeRequest.Parse(request), screen.Interruption.Token).ToJson());
            return ExitCode.Success;
        }));
        return command;
    }

    /// <summary>The run with the rows of its files, or with as many as were asked for.</summary>
    private static PlannedRun Run(RunSettings settings, int? rows, int? length)
    {
        QwenLoraTrainer.Options options = settings.Training;
        if (rows is null && length is null)
        {
            MLContext ml = new(options.Seed);
            (IDataView data, options.ValidationSet) = RowFiles.Open(ml, settings);
            return ml.TextGeneration.Trainers.QwenLora(options).Planned(data);
        }

        if (settings.Data.Count > 0)
        {
            throw new ConfigException("--rows and --length are for plans without data; leave them or --data out.");
        }

        if (rows is not (>= 1 and <= 10_000_000) || length is < 2 or > 1_000_000)
        {
            throw new ConfigException("--rows must be from 1 to 10000000, and --length from 2 to 1000000.");
        }

        options.Validate();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(options.ModelPath));
        Random random = new(options.Seed ?? 0);
        int[] ids = [.. Enumerable.Range(0, length ?? options.MaximumSequenceLength).Select(_ => random.Next(checkpoint.Config.VocabSize))];
        TrainingRow row = new(ids, [.. ids.Select((id, i) => i < ids.Length / 2 ? TrainingRow.Ignore : id)]);
        return new PlannedRun(checkpoint, options.Method == FineTuningMethod.Full ? null : options.Lora, options, [.. Enumerable.Repeat(row, rows.Value)], []);
    }

    /// <summary>This program; where another one has loaded it, through dotnet.</summary>
    private static string[] Self()
    {
        Assembly own = typeof(PlanCommand).Assembly;
        string process = Environment.ProcessPath ?? "dotnet";
        bool isDotnet = Path.GetFileNameWithoutExtension(process) == "dotnet";
        return Assembly.GetEntryAssembly() == own && !isDotnet ? [process]
            : [Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? (isDotnet ? process : "dotnet"), own.Location];
    }
}
