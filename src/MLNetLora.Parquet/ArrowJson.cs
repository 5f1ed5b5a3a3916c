using System.Text.Json;
using System.Text.Unicode;
using Apache.Arrow;
using Apache.Arrow.Arrays;

namespace MLNetLora.Parquet;

/// <summary>Writes values of Arrow arrays as JSON.</summary>
internal static class ArrowJson
{
    /// <summary>Writes one value; a struct without those of its fields that are null, which is how Arrow keeps a field that only other rows have.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="array">The array.</param>
    /// <param name="index">Position in the array.</param>
    /// <param name="where">Row and column, for messages.</param>
    /// <exception cref="DatasetException">The value has a type without a place in a data set, or a text is not UTF-8, or the row becomes too long.</exception>
    public static void Write(Utf8JsonWriter writer, IArrowArray array, int index, string where)
    {
        if (writer.BytesCommitted + writer.BytesPending > ParquetRows.RowLimit)
        {
            throw new DatasetException($"{where}: the row has more than {ParquetRows.RowLimit >> 20} MiB. Split or remove it.");
        }

        if (array is NullArray || array.IsNull(index))
        {
            writer.WriteNullValue();
            return;
        }

        switch (array)
        {
            case BinaryArray text: // StringArray is one of these, too.
                WriteText(writer, text.GetBytes(index), where);
                break;
            case LargeBinaryArray text:
                WriteText(writer, text.GetBytes(index), where);
                break;
            case DictionaryArray dictionary:
                Write(writer, dictionary.Dictionary, Index(dictionary.Indices, index, where), where);
                break;
            case StructArray row:
                Apache.Arrow.Types.StructType type = (Apache.Arrow.Types.StructType)row.Data.DataType;
                writer.WriteStartObject();
                for (int i = 0; i < row.Fields.Count; i++)
                {
                    if (row.Fields[i] is NullArray || row.Fields[i].IsNull(index))
                    {
                        continue;
                    }

                    writer.WritePropertyName(type.Fields[i].Name);
                    Write(writer, row.Fields[i], index, where);
                }

                writer.WriteEndObject();
                break;
            case ListArray list:
                WriteList(writer, list.Values, list.ValueOffsets[index], list.ValueOffsets[index + 1], where);
                break;
            case LargeListArray list:
                WriteList(writer, list.Values, checked((int)list.ValueOffsets[index]), checked((int)list.ValueOffsets[index + 1]), where);
                break;
            case BooleanArray flags:
                writer.WriteBooleanValue(flags.GetValue(index)!.Value);
                break;
            case FloatArray or DoubleArray:
                double number = array is FloatArray floats ? floats.Values[index] : ((DoubleArray)array).Values[index];
                if (!double.IsFinite(number))
                {
                    throw new DatasetException($"{where}: {number} is not a number that a data set can hold.");
                }

                writer.WriteNumberValue(number);
                break;
            case Int8Array or Int16Array or Int32Array or Int64Array or UInt8Array or UInt16Array or UInt32Array:
                writer.WriteNumberValue(Integer(array, index));
                break;
            default:
                throw new DatasetException($"{where} has the type {array.Data.DataType.Name}, which has no place in a data set. "
                    + "Write texts, numbers, lists and structs of them.");
        }
    }

    private static void WriteList(Utf8JsonWriter writer, IArrowArray values, int start, int end, string where)
    {
        writer.WriteStartArray();
        for (int i = start; i < end; i++)
        {
            Write(writer, values, i, where);
        }

        writer.WriteEndArray();
    }

    private static void WriteText(Utf8JsonWriter writer, ReadOnlySpan<byte> text, string where)
    {
        if (!Utf8.IsValid(text))
        {
            throw new DatasetException($"{where}: a text is not valid UTF-8. Write it as UTF-8 (it may be in GBK or Latin-1, or not be a text).");
        }

        if (text.Length > ParquetRows.RowLimit)
        {
            throw new DatasetException($"{where}: the row has more than {ParquetRows.RowLimit >> 20} MiB. Split or remove it.");
        }

        writer.WriteStringValue(text);
    }

    private static int Index(IArrowArray indices, int index, string where)
    {
        bool isInteger = indices is Int8Array or Int16Array or Int32Array or Int64Array or UInt8Array or UInt16Array or UInt32Array;
        return isInteger
            ? checked((int)Integer(indices, index))
            : throw new DatasetException($"{where}: its dictionary has indices of the type {indices.Data.DataType.Name}. Write it without a dictionary type.");
    }

    private static long Integer(IArrowArray array, int index) => array switch
    {
        Int8Array values => values.Values[index],
        Int16Array values => values.Values[index],
        Int32Array values => values.Values[index],
        Int64Array values => values.Values[index],
        UInt8Array values => values.Values[index],
        UInt16Array values => values.Values[index],
        _ => ((UInt32Array)array).Values[index],
    };
}
