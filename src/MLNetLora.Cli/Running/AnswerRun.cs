using System.Text;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Cli.Running;

/// <summary>Answers questions and writes what was answered.</summary>
internal sealed class AnswerRun(Screen screen, AnsweringModel model, bool json)
{
    private CancellationToken Token => screen.Interruption.Token;

    /// <summary>One question; the answer is written as it comes.</summary>
    public async Task<int> One(string question, string? input)
    {
        TextRow row = new(new InstructionRow(question, Input: input));
        GeneratedText? answer = null;
        await foreach (GeneratedChunk chunk in model.Engine.GenerateAsync(row, model.Generation, Token))
        {
            screen.HasBegun = true;
            if (!json && !chunk.IsThinking)
            {
                await screen.Out.WriteAsync(Visible.Of(chunk.Text));
                await screen.Out.FlushAsync(CancellationToken.None);
            }

            answer = chunk.Answer ?? answer;
        }

        await screen.Out.WriteLineAsync(json ? AnswerJson.Of(row, answer!) : "");
        return ExitCode.Success;
    }

    /// <summary>The lines of the standard input, each a question.</summary>
    public async Task<int> Lines(string? input)
    {
        int failed = 0;
        while (await Task.Run(screen.In.ReadLine).WaitAsync(Token) is { } line) // a console's own asynchronous way cannot be ended
        {
            if (string.IsNullOrWhiteSpace(line))
            {
                continue;
            }

            TextRow row = new(new InstructionRow(line, Input: input));
            GeneratedText answer = model.Engine.Generate([row], model.Generation, null, Token)[0];
            screen.HasBegun = true;
            failed += answer.Error is null ? 0 : 1;
            if (json)
            {
                await screen.Out.WriteLineAsync(AnswerJson.Of(row, answer));
            }
            else if (answer.Error is { } error)
            {
                await screen.Out.WriteLineAsync();
                screen.WriteError(error.Message);
            }
            else
            {
                await screen.Out.WriteLineAsync(Visible.Of(answer.Text));
            }

            await screen.Out.FlushAsync(CancellationToken.None);
        }

        return failed == 0 ? ExitCode.Success : ExitCode.Failure;
    }

    /// <summary>The rows of files. Answers are written batch by batch; with a file for them, it appears under its name when the last is there.</summary>
    /// <param name="path">A file or a pattern.</param>
    /// <param name="format">How its rows are written.</param>
    /// <param name="target">The file for the answers; null for the standard output.</param>
    public int File(string path, DatasetFormat format, string? target)
    {
        string? partial = target is null ? null : target + ".partial";
        using MadeFolders? made = target is null ? null : new MadeFolders(Path.GetDirectoryName(Path.GetFullPath(target))!);
        using TextWriter? own = partial is null ? null : Create(partial);
        TextWriter writer = own ?? screen.Out;
        int done = 0;
        int failed = 0;
        try
        {
            foreach (DatasetRow[] batch in Dataset.ReadQuestions(path, format).Chunk(model.Generation.BatchSize))
            {
                TextRow[] rows = [.. batch.Select(row => Asked(row, model.Generation.ContinueFinalMessage))];
                IReadOnlyList<GeneratedText> answers = model.Engine.Generate(rows, model.Generation, null, Token, firstNumber: done + 1);
                screen.HasBegun = true;
                for (int i = 0; i < rows.Length; i++)
                {
                    writer.WriteLine(AnswerJson.Of(rows[i], answers[i]));
                    failed += answers[i].Error is null ? 0 : 1;
                }

                writer.Flush();
                done += rows.Length;
            }
        }
        catch (Exception e) when (partial is not null && done == 0 && e is not OperationCanceledException)
        {
            own!.Dispose();
            System.IO.File.Delete(partial);
            throw;
        }
        catch (Exception) when (partial is not null)
        {
            screen.WriteNote(FormattableString.Invariant($"The {done} answers so far are in {partial}."));
            throw;
        }

        own?.Dispose();
        if (partial is not null)
        {
            System.IO.File.Move(partial, target!, overwrite: true);
            screen.WriteNote(FormattableString.Invariant($"{done} answers are in {target}."));
        }

        if (failed > 0)
        {
            screen.WriteWarning(FormattableString.Invariant($"{failed} of {done} rows could not be answered; their lines say why (error)."));
        }

        return failed == 0 ? ExitCode.Success : ExitCode.Failure;
    }

    /// <summary>Refuses a file for answers that cannot be one, before a model is opened.</summary>
    public static void RequireTarget(string target)
    {
        string full = Path.GetFullPath(target);
        if (Directory.Exists(target) || Path.EndsInDirectorySeparator(target))
        {
            throw new ConfigException($"--out is {target}, a folder; give a file for the answers.");
        }

        if (full.StartsWith("/dev/", StringComparison.Ordinal) && !full.StartsWith("/dev/shm/", StringComparison.Ordinal))
        {
            throw new ConfigException($"--out is {target}, a device; give a file, or leave it out for the standard output.");
        }
    }

    private static StreamWriter Create(string path)
    {
        if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder)
        {
            Directory.CreateDirectory(folder);
        }

        return new StreamWriter(path, append: false, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)) { NewLine = "\n" };
    }

    /// <summary>A row as a question.</summary>
    /// <param name="row">The row.</param>
    /// <param name="continues">Whether the answers that a conversation ends with stay, to be gone on with.</param>
    public static TextRow Asked(DatasetRow row, bool continues)
    {
        if (row.Instruction is { } instruction)
        {
            return new TextRow(instruction);
        }

        if (row.Conversation is not { } conversation)
        {
            throw new DatasetException($"{row.Where} is a document, which asks nothing.");
        }

        if (continues)
        {
            return new TextRow(Conversation: conversation);
        }

        ChatMessage[] messages = [.. conversation.Messages.Reverse().SkipWhile(message => message.Role == "assistant").Reverse()];
        return messages.Length > 0
            ? new TextRow(Conversation: conversation with { Messages = messages })
            : throw new DatasetException($"{row.Where}: nobody asks anything.");
    }
}
