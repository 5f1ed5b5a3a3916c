using System.Text;

namespace MLNetLora.Cli.Output;

/// <summary>Writes what tells how a run goes on. Where it cannot be written, on a disk that is full, that costs its text and not the run.</summary>
/// <param name="writer">Where it goes.</param>
/// <param name="warn">Told once that something could not be written; null: there is nobody else to tell.</param>
internal sealed class ForgivingWriter(TextWriter writer, Action<Exception>? warn = null) : TextWriter
{
    private bool _isTold;

    /// <inheritdoc/>
    public override Encoding Encoding => writer.Encoding;

    /// <inheritdoc/>
    public override void Write(char value) => Try(() => writer.Write(value));

    /// <inheritdoc/>
    public override void Write(string? value) => Try(() => writer.Write(value));

    /// <inheritdoc/>
    public override void WriteLine() => Try(writer.WriteLine);

    /// <inheritdoc/>
    public override void WriteLine(string? value) => Try(() => writer.WriteLine(value));

    /// <inheritdoc/>
    public override void Flush() => Try(writer.Flush);

    private void Try(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            bool isFirst = !_isTold;
            _isTold = true;
            if (isFirst)
            {
                warn?.Invoke(e);
            }
        }
    }
}
