using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Answers what a script says, in pieces: what weights of a test cannot be asked for, such as the call of a tool.</summary>
/// <param name="script">What the model writes, its thinking before &lt;/think&gt;.</param>
/// <param name="pieceLength">Characters of a piece.</param>
/// <param name="features">What the template knows; null for everything.</param>
internal sealed class ScriptedSource(Func<Conversation, string> script, int pieceLength = 3, TemplateFeatures? features = null) : IAnswerSource
{
    /// <summary>What was asked, in order.</summary>
    public List<(TextRow Row, GenerationOptions Options)> Requests { get; } = [];

    /// <summary>Why the answers end.</summary>
    public FinishReason Reason { get; set; } = FinishReason.Stop;

    public bool IsDisposed { get; private set; }

    public GenerationOptions Defaults { get; } = new() { MaximumNewTokens = 99, StopStrings = ["STOP"] };

    public ValueTask<TemplateFeatures> OpenAsync(CancellationToken cancellation) => new(features ?? new TemplateFeatures(true, true));

    public async IAsyncEnumerable<GeneratedChunk> AnswerAsync(
        TextRow row, GenerationOptions options, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
    {
        options.Validate();
        lock (Requests)
        {
            Requests.Add((row, options));
        }

        string[] parts = script(row.Conversation!).Split("</think>");
        foreach (string part in parts)
        {
            for (int i = 0; i < part.Length; i += pieceLength)
            {
                await Task.Yield();
                cancellation.ThrowIfCancellationRequested();
                yield return new GeneratedChunk(part[i..Math.Min(part.Length, i + pieceLength)], IsThinking: parts.Length > 1 && part == parts[0]);
            }
        }

        yield return new GeneratedChunk("")
        {
            Answer = new GeneratedText(parts[^1], Reason, row.Conversation!.Messages.Sum(message => message.Content!.Length), parts.Sum(part => part.Length)),
        };
    }

    public object? GetService(Type serviceType) => serviceType == typeof(string) ? "the generator" : null;

    public void Dispose() => IsDisposed = true;
}
