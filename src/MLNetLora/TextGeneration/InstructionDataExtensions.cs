using MLNetLora;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace Microsoft.ML;

/// <summary>Loads instruction files as data views.</summary>
public static class InstructionDataExtensions
{
    /// <summary>
    /// Reads a file of instruction rows. The view has the text columns Instruction, Input (empty where a row has none) and Output; its rows are in the file's order and in memory.
    /// </summary>
    /// <param name="catalog"><c>ml.Data</c>.</param>
    /// <param name="path">The file.</param>
    /// <returns>The view. The file is read before this returns.</returns>
    /// <exception cref="DatasetException">The file cannot be used, or a row has its own system message or history; the message names file and row.</exception>
    public static IDataView LoadFromInstructionFile(this DataOperationsCatalog catalog, string path)
    {
        ArgumentNullException.ThrowIfNull(catalog);
        ArgumentException.ThrowIfNullOrEmpty(path);
        return catalog.LoadFromEnumerable(InstructionFile.Read(path).Select((row, index) => Record(path, row, index + 1)).ToList());
    }

    // Left out silently, a row's system message or history would be missing from what is learned.
    private static InstructionRecord Record(string path, InstructionRow row, int number) => row is { System: null, History: null }
        ? new InstructionRecord(row.Instruction, row.Input ?? "", row.Output ?? "")
        : throw new DatasetException($"{path}, row {number} has a system message or a history, for which the view has no column. Remove it, or set SystemPrompt for all rows.");

    /// <summary>The names of these members are the names of the columns.</summary>
    private sealed record InstructionRecord(string Instruction, string Input, string Output);
}
