using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Reports;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>A training from its start to the message where everything is.</summary>
internal sealed class TrainingRun(Screen screen, SettingsReader reader, RunSettings settings)
{
    private const string MergedFolder = "merged";
    private const string ModelFolder = "model";
    private const string ZipName = "model.zip";

    private QwenLoraTrainer.Options Options => settings.Training;

    private string Output => settings.Output!;

    private bool IsFull => Options.Method == FineTuningMethod.Full;

    /// <summary>Where a run leaves its adapter: beside its checkpoints, as the peers do.</summary>
    public static string AdapterIn(string output) => output;

    /// <summary>The checkpoint that a full fine-tuning leaves in its folder.</summary>
    public static string ModelIn(string output) => Path.Combine(output, ModelFolder);

    /// <summary>Sets what follows for the library's options.</summary>
    public static void Prepare(RunSettings settings)
    {
        if (string.IsNullOrWhiteSpace(settings.Training.ModelPath))
        {
            throw new ConfigException("There is no model: give --model FOLDER or a hub id, or model_path in the configuration.");
        }

        QwenLoraTrainer.Options training = settings.Training;
        string output = settings.Output ?? "."; // what writes nothing, such as a plan, needs none, and checkpoints that are asked for have one
        training.OutputFolder = training.Method == FineTuningMethod.Full ? Path.Combine(output, ModelFolder) : output;
        if (settings.Resume && training.ResumeFrom is not (null or RunSettings.OwnFolder))
        {
            throw new ConfigException("resume goes on with the run in the output folder, and resume_from names another: one of them must go.");
        }

        training.ResumeFrom = settings.Resume || training.ResumeFrom == RunSettings.OwnFolder ? training.OutputFolder : training.ResumeFrom;
    }

    /// <summary>What was let through without effect, and which defaults differ from those of the program that a file was written for.</summary>
    public static void WriteNotes(Screen screen, SettingsReader reader)
    {
        WriteIgnored(screen, reader);
        if (PeersDefaults.Line(reader) is { } defaults)
        {
            screen.WriteNote(defaults);
        }
    }

    /// <summary>What was let through without effect, beside the results.</summary>
    public static void WriteIgnored(Screen screen, SettingsReader reader)
    {
        if (reader.IgnoredLine is { } ignored)
        {
            screen.WriteNote(ignored);
        }
    }

    /// <summary>Trains, saves and says where.</summary>
    /// <returns>The exit code.</returns>
    public int Run()
    {
        Prepare(settings);
        using MadeFolders? made = string.IsNullOrWhiteSpace(settings.Output) ? null : new MadeFolders(settings.Output);
        RequireOutput();
        WriteNotes(screen, reader);
        RunReport report = new(Output);
        // What was learned must not go with a log that the shell writes.
        using ForgivingWriter output = new(screen.Out, e => screen.WriteWarning(
            $"The standard output could not be written, and the training goes on without what is missing there: {e.Message}"));
        ProgressLine progress = new(output, screen.IsLive);
        Options.CancellationToken = screen.Interruption.Token;
        Options.Callbacks =
        [
            new RunStart(screen, output),
            settings.LoggingSteps > 0 && !screen.IsLive ? new EverySteps(output, settings.LoggingSteps) : progress,
            .. RunLogs.In(Output),
            report,
        ];
        screen.Interruption.Noticed = () => screen.Error.WriteLine(
            $"{Environment.NewLine}Stopping after this step, and saving what was learned. A second Ctrl-C ends at once.");
        MLContext ml = new(Options.Seed);
        ml.Log += (_, message) => Show(message, progress);
        (IDataView rows, Options.ValidationSet) = RowFiles.Open(ml, settings);
        Options.Validate();
        if (Options.DownloadModel)
        {
            ModelSource.Folder(screen, Options.ModelPath, downloads: true); // which shows how far it is; the trainer finds it then
        }

        using OldResults old = new(Output, Options.ResumeFrom is null ? [.. Present()] : [], Inputs());
        Options.Callbacks = [.. Options.Callbacks, old.Removal];
        QwenLoraTrainer trainer = ml.TextGeneration.Trainers.QwenLora(Options);
        try
        {
            using QwenLoraTransformer trained = trainer.Fit(rows);
            Save(trained, rows);
            RunLogs.Draw(screen, Output, trained.TrainingSummary!);
            if (trained.TrainingSummary!.WasCancelled)
            {
                return Cancelled(trained.TrainingSummary);
            }

            if (settings.SampleAnswers > 0)
            {
                SampleAnswers.Add(screen, output, report, trained, Options, Options.ValidationSet ?? rows, settings.SampleAnswers);
            }

            return Done(output);
        }
        catch (TrainingException e) when (e.LastGoodStep > 0 && Directory.Exists(Checkpoint(e.LastGoodStep)))
        {
            string goOn = e is TrainingDivergedException ? "" : $" {GoOn}"; // the same would diverge again
            screen.WriteNote($"The checkpoint of step {e.LastGoodStep} is in {Checkpoint(e.LastGoodStep)}.{goOn}");
            throw;
        }
        catch (TrainingException e) when (e.LastGoodAdapter is { } adapter)
        {
            string folder = Path.Combine(Output, FormattableString.Invariant($"adapter-of-step-{e.LastGoodStep}"));
            using MadeFolders unsavedFolder = new(folder);
            try
            {
                adapter.SaveAsPeft(folder);
                screen.WriteNote($"The adapter of step {e.LastGoodStep} is in {folder}.");
            }
            catch (Exception unsaved) when (unsaved is IOException or UnauthorizedAccessException)
            {
                screen.WriteNote($"The adapter of step {e.LastGoodStep} could not be written to {folder}: {unsaved.Message}");
            }

            throw;
        }
        catch (OperationCanceledException) when (screen.Interruption.Came)
        {
            screen.WriteNote(Options.ResumeFrom is { } from && RunFolder.Holds(from, Options.OutputFolder)
                ? StoppedBeforeAnother(from) : "Stopped before the first step; there is nothing to save.");
            return screen.Interruption.ExitCode;
        }
    }

    /// <summary>Refuses a folder with results, before hours are spent on new ones.</summary>
    private void RequireOutput()
    {
        if (string.IsNullOrWhiteSpace(settings.Output))
        {
            throw new ConfigException("There is no folder for the results: give --output FOLDER, or output in the configuration.");
        }

        if (File.Exists(Output))
        {
            throw new ConfigException($"The output {Output} is a file; give a folder.");
        }

        if (settings.Merge && IsFull)
        {
            throw new ConfigException("merge is for adapters; a full fine-tuning writes a checkpoint anyway.");
        }

        string[] present = Options.ResumeFrom is null ? [.. Present()] : [];
        if (settings.Overwrite && Options.ResumeFrom is not null)
        {
            throw new ConfigException("overwrite removes the run that resume goes on with: one of them must go.");
        }

        if (present.Length > 0 && !settings.Overwrite)
        {
            throw new ConfigException(
                $"{Output} has results already ({Path.GetFileName(present[0])}). Give another folder, --resume to go on with that run, or --overwrite.");
        }

        try
        {
            Directory.CreateDirectory(Output);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new ConfigException($"The output {Output} cannot be made: {e.Message}", e);
        }

        RequireAlone(Output);
        RunLogs.RemoveUnfinished(Output); // of a run that was killed
        RunLogs.Require(Output);
    }

    /// <summary>Refuses a folder in which nothing can be written, or another run is at work: one of an adapter has the folder itself, one of every weight that
    /// of the model in it.</summary>
    public static void RequireAlone(string output)
    {
        foreach (string folder in (string[])[AdapterIn(output), ModelIn(output)])
        {
            if (Directory.Exists(folder))
            {
                RunFolder.Open(folder, nameof(Options.OutputFolder)).Dispose();
            }
        }
    }

    /// <summary>What the run reads: it must not be among what is replaced.</summary>
    private IEnumerable<string> Inputs() => [Options.ModelPath, .. Options.InitialAdapter is { } initial ? (string[])[initial] : [], .. settings.Data,
        .. settings.Validation];

    /// <summary>What an earlier run left, that would be in a new one's way.</summary>
    private IEnumerable<string> Present() => new[] { LoraAdapter.ConfigName, LoraAdapter.WeightsName, ModelFolder, MergedFolder, ZipName }
        .Select(name => Path.Combine(Output, name)).Where(Path.Exists)
        .Concat(RunFolder.Checkpoints(Output).Select(checkpoint => checkpoint.Folder));

    private string Checkpoint(int step) => Path.Combine(Options.OutputFolder!, FormattableString.Invariant($"{RunFolder.Prefix}{step}"));

    private static string StoppedBeforeAnother(string from) =>
        $"Stopped before another step was made; {from} is as it was. The same command goes on from there.";

    /// <summary>How the run goes on. One that came from another folder has its own now.</summary>
    private string GoOn => Options.ResumeFrom is null || RunFolder.AreSame(Options.ResumeFrom, Options.OutputFolder)
        ? "The same command with --resume goes on from there."
        : "The same command with --resume in the place of --resume-from (resume_from_checkpoint) goes on from there.";

    private void Show(LoggingEventArgs message, ProgressLine progress)
    {
        if (message.Kind == ChannelMessageKind.Warning && message.Source.Contains("QwenLora", StringComparison.Ordinal))
        {
            progress.Clear();
            screen.WriteWarning(message.RawMessage);
        }
        else if (screen.IsVerbose && message.Kind is ChannelMessageKind.Info && message.Source.Contains("QwenLora", StringComparison.Ordinal))
        {
            screen.WriteNote(message.RawMessage);
        }
    }

    private void Save(QwenLoraTransformer trained, IDataView rows)
    {
        if (trained.TrainingSummary is { WasCancelled: true } cancelled
            && (HasMadeNone(cancelled) || Directory.Exists(Checkpoint(cancelled.Steps[^1].Step))))
        {
            return; // it is not the result
        }

        if (!IsFull && trained.TrainingSummary!.WasCancelled)
        {
            trained.Adapter.SaveAsPeft(AdapterIn(Output)); // else the trainer has
        }

        if (settings.Zip)
        {
            trained.Save(Path.Combine(Output, ZipName), rows.Schema);
        }

        if (settings.Merge && !trained.TrainingSummary!.WasCancelled)
        {
            trained.MergeAndSave(Path.Combine(Output, MergedFolder));
        }
    }

    private int Done(TextWriter output)
    {
        output.WriteLine();
        List<(string What, string Where)> results = IsFull
            ? [("checkpoint", ModelIn(Output))]
            : [("adapter (PEFT)", AdapterIn(Output))];
        if (settings.Merge)
        {
            results.Add(("merged checkpoint", Path.Combine(Output, MergedFolder)));
        }

        if (settings.Zip)
        {
            results.Add(("ML.NET model", Path.Combine(Output, ZipName)));
        }

        results.Add(("how it went", Path.Combine(Output, RunReport.FileName)));
        foreach ((string what, string where) in results)
        {
            output.WriteLine($"{what + ":",-20}{Visible.OnOneLine(where)}");
        }

        output.WriteLine($"{"try it:",-20}{screen.Bold(Visible.OnOneLine($"{CommandLine.Name} chat {Model()}"))}");
        return ExitCode.Success;
    }

    private string Model() => IsFull ? $"--model {ShellWord.Of(ModelIn(Output))}"
        : $"--model {ShellWord.Of(Options.ModelPath)} --adapter {ShellWord.Of(AdapterIn(Output))}";

    /// <summary>Whether a run that was to go on was stopped before it did.</summary>
    private static bool HasMadeNone(TrainingSummary summary) => summary.FirstStep > summary.Steps.Count;

    private int Cancelled(TrainingSummary summary)
    {
        if (HasMadeNone(summary))
        {
            screen.WriteNote(StoppedBeforeAnother(Options.ResumeFrom!));
            return screen.Interruption.ExitCode;
        }

        TrainingProgress last = summary.Steps[^1];
        screen.WriteNote(FormattableString.Invariant($"Stopped after step {last.Step} of {last.TotalSteps}. ")
            + (Directory.Exists(Checkpoint(last.Step)) ? $"Its checkpoint is {Checkpoint(last.Step)}. {GoOn}"
            : IsFull
                ? $"The checkpoint as of then is in {ModelIn(Output)}; it can be trained on: --model {ShellWord.Of(ModelIn(Output))}."
                : $"The adapter as of then is in {AdapterIn(Output)}; it can be trained on with new moments and a new schedule: --initial-adapter "
                    + $"{ShellWord.Of(AdapterIn(Output))} and another --output."));
        return screen.Interruption.ExitCode;
    }
}
