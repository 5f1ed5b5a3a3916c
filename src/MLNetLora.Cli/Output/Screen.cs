using System.Text;
using MLNetLora.Cli.Configuration;
using Spectre.Console;

namespace MLNetLora.Cli.Output;

/// <summary>Where a command reads and writes, and what it may do there.</summary>
internal sealed class Screen
{
    private const int Unbounded = 100_000; // what goes to a file or a pipe is not wrapped

    /// <summary>What is typed or piped in.</summary>
    public required TextReader In { get; init; }

    /// <summary>Whether there is no input, which is more than an empty one: nothing can be asked of it.</summary>
    public bool IsInputClosed { get; init; }

    /// <summary>Results.</summary>
    public required TextWriter Out { get; init; }

    /// <summary>Warnings and errors.</summary>
    public required TextWriter Error { get; init; }

    /// <summary>Whether somebody types, rather than a pipe.</summary>
    public bool IsInteractive { get; init; }

    /// <summary>Whether results go to a terminal whose line can be written over.</summary>
    public bool IsLive { get; init; }

    /// <summary>Whether results may have colours.</summary>
    public bool HasColor { get; init; }

    /// <summary>Whether warnings and errors may have colours.</summary>
    public bool HasErrorColor { get; init; }

    /// <summary>Columns of the terminal.</summary>
    public int Width { get; init; } = Unbounded;

    /// <summary>Whether errors come with their stack.</summary>
    public bool IsVerbose { get; set; }

    /// <summary>The words in which the library's messages name its options; null where a command has no settings.</summary>
    public OptionWords? Words { get; set; }

    /// <summary>Whether something was trained, answered or written: what fails then is the run, and not what was given.</summary>
    public bool HasBegun { get; set; }

    /// <summary>Ends what is under way.</summary>
    public Interruption Interruption { get; init; } = new();

    /// <summary>The process's own console: UTF-8, colours where it is a terminal, NO_COLOR is not set and TERM is not dumb.</summary>
    public static Screen OfProcess(Interruption interruption)
    {
        UTF8Encoding utf8 = new(encoderShouldEmitUTF8Identifier: false);
        bool isDumb = Environment.GetEnvironmentVariable("TERM") == "dumb";
        bool mayColor = !isDumb && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));
        if (!Console.IsInputRedirected || !Console.IsOutputRedirected)
        {
            Console.OutputEncoding = utf8; // a Windows console
            Console.InputEncoding = utf8;
        }

        return new Screen
        {
            IsInputClosed = ClosedStream.IsInput,
            In = ClosedStream.IsInput ? TextReader.Null : Console.IsInputRedirected ? new StreamReader(Console.OpenStandardInput(), utf8) : Console.In,
            Out = ClosedStream.IsOutput ? TextWriter.Null
                : Console.IsOutputRedirected ? new StreamWriter(Console.OpenStandardOutput(), utf8) { AutoFlush = true } : Console.Out,
            Error = ClosedStream.IsError ? TextWriter.Null
                : Console.IsErrorRedirected ? new ForgivingWriter(new StreamWriter(Console.OpenStandardError(), utf8) { AutoFlush = true }) : Console.Error,
            IsInteractive = !Console.IsInputRedirected && !Console.IsOutputRedirected,
            IsLive = !Console.IsOutputRedirected && !isDumb,
            HasColor = !Console.IsOutputRedirected && mayColor,
            HasErrorColor = !Console.IsErrorRedirected && mayColor,
            Width = Console.IsOutputRedirected ? Unbounded : Math.Max(40, Columns()),
            Interruption = interruption,
        };
    }

    /// <summary>Writes one paragraph about an error.</summary>
    public void WriteError(string message) => Error.WriteLine(HasErrorColor ? $"\e[31merror:\e[0m {Said(message)}" : $"error: {Said(message)}");

    /// <summary>Writes a warning.</summary>
    public void WriteWarning(string message) => Error.WriteLine(HasErrorColor ? $"\e[33mwarning: {Said(message)}\e[0m" : $"warning: {Said(message)}");

    /// <summary>Writes a line beside the results.</summary>
    public void WriteNote(string message) => Error.WriteLine(Said(message));

    /// <summary>A message of the library in the words of the command line, without what a terminal would take for commands.</summary>
    public string Said(string message)
    {
        string text = OptionWords.Commands(message);
        return Visible.Of(Words?.Say(text) ?? text);
    }

    /// <summary>Text that stands back: thinking, hints.</summary>
    public string Dim(string text) => HasColor ? $"\e[2m{text}\e[0m" : text;

    /// <summary>Text that stands out.</summary>
    public string Bold(string text) => HasColor ? $"\e[1m{text}\e[0m" : text;

    /// <summary>Writes rows in columns, under headings.</summary>
    public void WriteTable(IReadOnlyList<string> headings, IEnumerable<IReadOnlyList<string>> rows)
    {
        Table table = new Table().Border(TableBorder.Simple);
        foreach (string heading in headings)
        {
            table.AddColumn(new TableColumn(new Spectre.Console.Text(heading)));
        }

        foreach (IReadOnlyList<string> row in rows)
        {
            table.AddRow(row.Select(cell => new Spectre.Console.Text(Visible.OnOneLine(cell))));
        }

        StringWriter text = new();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(text),
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
        });
        console.Profile.Width = Width;
        console.Profile.Capabilities.Unicode = true;
        console.Write(table);
        foreach (string line in text.ToString().ReplaceLineEndings("\n").Split('\n').Select(line => line.TrimEnd()).Where(line => line.Length > 0))
        {
            Out.WriteLine(line);
        }
    }

    private static int Columns()
    {
        try
        {
            return Console.WindowWidth is > 0 and var width ? width : 80;
        }
        catch (IOException)
        {
            return 80;
        }
    }
}
