using MLNetLora.Text;

namespace MLNetLora.Parquet;

/// <summary>Parquet files as data sets, wherever <see cref="Dataset"/> and <c>ml.Data.LoadFromInstructionFile</c> take a path.</summary>
public static class ParquetData
{
    /// <summary>
    /// Reads files named .parquet from now on, in this process. Columns and the fields in them have the names of the JSON formats
    /// (<see cref="DatasetReaders.Fields"/>): texts such as instruction, output and text, lists of structs (messages, conversations) and lists of lists
    /// (history). A null is a field that the row does not have; other columns are not read.
    /// </summary>
    public static void Register() => DatasetReaders.Register(".parquet", ParquetRows.Read);
}
