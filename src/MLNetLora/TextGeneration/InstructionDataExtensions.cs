using MLNetLora;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace Microsoft.ML;

/// <summary>Loads instruction data as data views.</summary>
public static class InstructionDataExtensions
{
    /// <summary>
    /// Makes a view of a data set: JSON, JSONL, CSV, TSV or plain text, also compressed with gzip, and Parquet with the package MLNetLora.Parquet. Its columns
    /// are those that the rows need, all text, and those that the trainer reads by default: Instruction, Input and Output of instruction rows, with System and
    /// History (JSON, <c>[["question", "answer"], …]</c>) where a row has them; Conversation (JSON in OpenAI's form,
    /// <c>{"messages": […], "tools": […]}</c>) of ShareGPT, messages and prompt/completion rows; Text of documents. What a row does not have is empty.
    /// </summary>
    /// <param name="catalog"><c>ml.Data</c>.</param>
    /// <param name="path">
    /// A file, or a pattern with * and ? in the file name, with ** for folders at any depth; see <see cref="Dataset.Read(string, DatasetFormat, string?)"/>.
    /// </param>
    /// <param name="format">How the rows are written; recognized by the first row of each file where it is not said.</param>
    /// <returns>
    /// The view, with the rows in the files' order. The files are read once before this returns, so that what is wrong with a row is said at once, and again in
    /// every pass over the view: of a file of any length one row is in memory at a time. Put <c>ml.Data.Cache</c> around it where that is unwanted.
    /// </returns>
    /// <exception cref="DatasetException">A file cannot be used, or a row is wrong; the message names file, line and row.</exception>
    public static IDataView LoadFromInstructionFile(this DataOperationsCatalog catalog, string path, DatasetFormat format = DatasetFormat.Recognize)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return LoadFromInstructionFile(catalog, [path], format);
    }

    /// <summary>
    /// Makes one view of several files or patterns, one after the other; see
    /// <see cref="LoadFromInstructionFile(DataOperationsCatalog, string, DatasetFormat)"/>. Their formats may differ.
    /// </summary>
    /// <param name="catalog"><c>ml.Data</c>.</param>
    /// <param name="paths">Files and patterns.</param>
    /// <param name="format">How the rows are written.</param>
    /// <returns>The view.</returns>
    /// <exception cref="DatasetException">A file cannot be used, or a row is wrong; the message names file, line and row.</exception>
    public static IDataView LoadFromInstructionFile(
        this DataOperationsCatalog catalog, IEnumerable<string> paths, DatasetFormat format = DatasetFormat.Recognize)
    {
        ArgumentNullException.ThrowIfNull(catalog);
        ArgumentNullException.ThrowIfNull(paths);
        return InstructionView.Create(catalog, [.. paths], format);
    }
}
