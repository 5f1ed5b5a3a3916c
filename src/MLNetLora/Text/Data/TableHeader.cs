using System.Text;
using Sylvan.Data.Csv;

namespace MLNetLora.Text;

/// <summary>How a table separates its fields.</summary>
/// <param name="Separator">A comma, a semicolon (Excel writes it where the comma is the decimal sign) or a tab.</param>
/// <param name="IsAnnounced">Whether the first line is Excel's <c>sep=;</c> rather than the names of the columns.</param>
internal readonly record struct TableHeader(char Separator, bool IsAnnounced)
{
    private const int LengthLimit = 1 << 20;

    private static readonly char[] Separators = [',', ';', '\t'];

    /// <summary>
    /// Looks at the first line: the separator that yields the most names of fields that data sets have; the one that the file's name promises where that leaves
    /// a choice.
    /// </summary>
    /// <exception cref="DatasetException">The file cannot be read.</exception>
    public static TableHeader Find(string path)
    {
        string line = FirstLine(path);
        if (line.StartsWith("sep=", StringComparison.OrdinalIgnoreCase) && line.Trim() is { Length: 5 } announced && Separators.Contains(announced[4]))
        {
            return new TableHeader(announced[4], IsAnnounced: true);
        }

        char promised = DatasetFiles.IsTabSeparated(path) ? '\t' : ',';
        (char Separator, int Known, int All)[] found = [.. Separators.OrderBy(separator => separator != promised).Select(separator => Count(line, separator))];
        int most = found.Max(one => one.Known);
        if (most > 0)
        {
            return new TableHeader(found.First(one => one.Known == most).Separator, IsAnnounced: false);
        }

        // No name is known. One column is then rather a table with another separator, whose names the message should show.
        return new TableHeader(found[0].All > 1 ? promised : found.MaxBy(one => one.All).Separator, IsAnnounced: false);
    }

    /// <summary>What messages call a separator.</summary>
    public static string NameOf(char separator) => separator switch
    {
        ',' => "commas",
        ';' => "semicolons",
        _ => "tabs",
    };

    private static (char Separator, int Known, int All) Count(string line, char separator)
    {
        int most = line.AsSpan().Count(separator);
        if (most > TableRows.FieldLimit)
        {
            return (separator, 0, most); // whoever reads the rows says so
        }

        try
        {
            using StringReader reader = new(line);
            using CsvDataReader csv = TableRows.Open(reader, separator);
            string[] names = csv.Read() ? [.. Enumerable.Range(0, csv.RowFieldCount).Select(column => csv.GetString(column).Trim())] : [];
            return (separator, names.Count(DatasetFields.All.Contains), names.Length);
        }
        catch (CsvFormatException)
        {
            return (separator, 0, 0);
        }
    }

    /// <summary>The first line that is not empty, with the line breaks in its quotation marks.</summary>
    private static string FirstLine(string path)
    {
        using DatasetText reader = new(path, DatasetFiles.Open(path));
        StringBuilder line = new();
        bool quoted = false;
        for (int value = reader.Read(); value >= 0 && line.Length < LengthLimit; value = reader.Read())
        {
            quoted ^= value == '"';
            if (quoted || value is not ('\r' or '\n'))
            {
                line.Append((char)value);
            }
            else if (line.Length > 0)
            {
                break;
            }
        }

        return line.ToString();
    }
}
