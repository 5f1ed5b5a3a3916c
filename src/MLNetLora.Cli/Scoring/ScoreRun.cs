using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Cli.Scoring;

/// <summary>Answers the rows of files into a file, and goes on where it was when it is begun again.</summary>
/// <param name="screen">Where is said how far it is.</param>
/// <param name="reader">What was said.</param>
/// <param name="settings">The settings.</param>
/// <param name="path">A file or pattern of rows.</param>
/// <param name="answers">The file for the answers.</param>
/// <param name="shard">Which of the rows.</param>
internal sealed class ScoreRun(Screen screen, SettingsReader reader, RunSettings settings, string path, string answers, Shard shard)
{
    /// <summary>How many answers, for each that is under way, may wait for one that takes longer.</summary>
    private const int Ahead = 8;

    private CancellationToken Token => screen.Interruption.Token;

    /// <summary>Does it.</summary>
    /// <param name="overwrite">Whether what is there goes.</param>
    /// <returns>The exit code.</returns>
    public int Run(bool overwrite)
    {
        RequireOtherFiles();
        ScoreInput input = ScoreInput.Read(path, settings.DataFormat, Token);
        ScoreManifest asked = new(input, shard, new Dictionary<string, string>());
        ScoreManifest? found = overwrite ? null : Found(asked);
        using AnsweringModel model = AnsweringModel.Open(screen, reader, settings);
        asked = asked with { Settings = ScoreSettings.Of(settings, model, AnswerSource.Find(settings)) };
        Refuse(found?.SettingsDifference(asked));
        long total = shard.Rows(input.Rows);
        if (found is { IsComplete: true })
        {
            ScoreFile.RequireWhole(answers, asked, total);
            screen.WriteNote(FormattableString.Invariant($"All {total} answers are in {answers} already."));
            return Ended(total, found.Failed);
        }

        using MadeFolders made = new(Path.GetDirectoryName(Path.GetFullPath(answers))!);
        using ScoreFile file = ScoreFile.Open(answers, asked, isNew: found is null);
        if (file.Done > 0)
        {
            screen.WriteNote(FormattableString.Invariant($"{file.Done} of {total} rows are answered already."));
        }

        Answer(model, Options(model, input), file, total);
        file.Finish();
        screen.WriteNote(FormattableString.Invariant($"{total} answers are in {answers}."));
        return Ended(total, file.Failed);
    }

    private void Answer(AnsweringModel model, GenerationOptions options, ScoreFile file, long total)
    {
        ScoreProgress progress = new(screen, total, file.Done);
        long first = shard.Row(file.Done);
        IEnumerable<QuestionRow> rows = Dataset.ReadEachQuestion(path, settings.DataFormat, row => row >= first && shard.Has(row));
        try
        {
            OrderedWork.Run(
                rows,
                (int)Math.Min(options.BatchSize, Math.Max(1, total - file.Done)),
                options.BatchSize * Ahead,
                (row, cancellation) => Answer(model, options, row, cancellation),
                line =>
                {
                    screen.HasBegun = true;
                    file.Add(line.Bytes, line.IsError);
                    progress.Add(file.Done, line.NewTokens);
                },
                Token);
        }
        catch (Exception)
        {
            progress.End();
            screen.WriteNote(FormattableString.Invariant($"{file.Done} of {total} rows are answered; the same command goes on with the others."));
            throw;
        }

        progress.End();
        if (file.Done < total)
        {
            throw new DatasetException(FormattableString.Invariant($"{path} has lost rows while it was read: {file.Done} of {total} were there."));
        }
    }

    private static (byte[] Bytes, bool IsError, int NewTokens) Answer(
        AnsweringModel model, GenerationOptions options, QuestionRow question, CancellationToken cancellation)
    {
        MLNetLoraException? error = question.Error;
        GeneratedText? answer = null;
        try
        {
            if (question.Row is { } row)
            {
                answer = model.Engine.Generate([AnswerRun.Asked(row, options.ContinueFinalMessage)], options, null, cancellation, question.Number + 1)[0];
                error = answer.Error;
            }
        }
        catch (DatasetException notAsked)
        {
            error = notAsked;
        }

        return (ScoredRow.Of(question, answer, error), error is not null, error is null ? answer!.NewTokens : 0);
    }

    /// <summary>How rows are answered: with a seed, so that a run in parts samples as one in one go.</summary>
    private static GenerationOptions Options(AnsweringModel model, ScoreInput input)
    {
        GenerationOptions options = model.Generation.Copy();
        options.Seed ??= ScoreSettings.Seed(input);
        return options;
    }

    /// <summary>The manifest of what is there; null where nothing is.</summary>
    private ScoreManifest? Found(ScoreManifest asked)
    {
        ScoreManifest? found = ScoreManifest.Read(answers);
        bool hasPartial = File.Exists(ScoreFile.PartialOf(answers));
        if (found is null && (hasPartial || File.Exists(answers)))
        {
            throw new ConfigException(
                $"{(hasPartial ? ScoreFile.PartialOf(answers) : answers)} is there, and nothing says to which rows and settings it belongs; "
                + "--overwrite begins anew.");
        }

        Refuse(found?.RowsDifference(asked));
        return found is { IsComplete: true } && !File.Exists(answers) ? null : found;
    }

    private void Refuse(string? difference)
    {
        if (difference is not null)
        {
            throw new ConfigException($"{answers} belongs to another run: {difference}. Give another --out, or --overwrite to begin anew.");
        }
    }

    /// <summary>Refuses to write where the rows are: --overwrite would lose them.</summary>
    private void RequireOtherFiles()
    {
        string[] written = [answers, ScoreFile.PartialOf(answers), ScoreManifest.PathOf(answers)];
        foreach (string file in DatasetFiles.Find(path))
        {
            if (written.FirstOrDefault(target => RealPath.SameFile(file, target)) is { } same)
            {
                throw new ConfigException($"{same} holds the rows that are to be answered (--in), and would be written over. Give another --out.");
            }
        }
    }

    private int Ended(long total, long failed)
    {
        if (failed > 0)
        {
            screen.WriteWarning(FormattableString.Invariant($"{failed} of {total} rows could not be answered; their lines say why (error)."));
        }

        return failed == 0 ? ExitCode.Success : ExitCode.Failure;
    }
}
