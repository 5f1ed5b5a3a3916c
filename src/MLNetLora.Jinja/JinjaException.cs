namespace MLNetLora.Jinja;

/// <summary>A template is not valid, cannot render what it is given, or does more than it may.</summary>
public sealed class JinjaException : Exception
{
    internal JinjaException(string message, int line, Exception? inner = null)
        : base(line > 0 ? $"line {line}: {message}" : message, inner) => Line = line;

    /// <summary>Line of the template, from 1; 0 where a variable is at fault, not the template.</summary>
    public int Line { get; }
}
