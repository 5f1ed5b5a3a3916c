using MLNetLora.Text;

namespace MLNetLora.Parquet;

/// <summary>Parquet files as data sets, wherever <see cref="Dataset"/> and <c>ml.Data.LoadFromInstructionFile</c> take a path.</summary>
public static class ParquetData
{
    /// <summary>
    /// Reads files named .parquet from now on, in this process. Columns and the fields in them have the names of the JSON formats: texts (instruction, input,
    /// output, system, prompt, completion, response, text,
    /// tools), lists of structs (messages, conversations) and lists of lists (history). A null is a field that the row does not have; other columns are not
    /// read.
    /// </summary>
    public static void Register() => DatasetReaders.Register(".parquet", ParquetRows.Read);
}
