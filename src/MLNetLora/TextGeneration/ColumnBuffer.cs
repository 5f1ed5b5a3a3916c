using System.Reflection;
using Microsoft.ML;
using Microsoft.ML.Data;

namespace MLNetLora.TextGeneration;

/// <summary>Copies of one column's values for a batch of rows.</summary>
internal abstract class ColumnBuffer
{
    private static readonly MethodInfo s_createScalars = typeof(ColumnBuffer).GetMethod(nameof(CreateScalars), BindingFlags.NonPublic | BindingFlags.Static)!;
    private static readonly MethodInfo s_createVectors = typeof(ColumnBuffer).GetMethod(nameof(CreateVectors), BindingFlags.NonPublic | BindingFlags.Static)!;

    /// <summary>A <see cref="ValueGetter{TValue}"/> of the column's type for the current slot.</summary>
    public abstract Delegate Getter { get; }

    /// <summary>Copies the value of the source's current row.</summary>
    public abstract void Capture(int slot);

    /// <param name="source">The row that moves.</param>
    /// <param name="column">One of its columns, of any type.</param>
    /// <param name="size">Most rows that are kept.</param>
    /// <param name="currentSlot">Which of them is served.</param>
    public static ColumnBuffer Create(DataViewRow source, DataViewSchema.Column column, int size, Func<int> currentSlot)
    {
        MethodInfo create = column.Type is VectorDataViewType vector
            ? s_createVectors.MakeGenericMethod(vector.ItemType.RawType)
            : s_createScalars.MakeGenericMethod(column.Type.RawType);
        return (ColumnBuffer)create.Invoke(null, BindingFlags.DoNotWrapExceptions, binder: null, [source, column, size, currentSlot], culture: null)!;
    }

    private static Scalars<T> CreateScalars<T>(DataViewRow source, DataViewSchema.Column column, int size, Func<int> currentSlot) =>
        new(source.GetGetter<T>(column), size, currentSlot);

    private static Vectors<T> CreateVectors<T>(DataViewRow source, DataViewSchema.Column column, int size, Func<int> currentSlot) =>
        new(source.GetGetter<VBuffer<T>>(column), size, currentSlot);

    private sealed class Scalars<T>(ValueGetter<T> source, int size, Func<int> currentSlot) : ColumnBuffer
    {
        private readonly T[] _values = new T[size];

        public override Delegate Getter => (ValueGetter<T>)((ref T value) => value = _values[currentSlot()]);

        public override void Capture(int slot)
        {
            // A fresh variable: a getter of a class, an image for instance, may reuse or dispose the object that it finds.
            T value = default!;
            source(ref value);
            _values[slot] = value;
        }
    }

    /// <summary>Each slot has its own buffer that the source fills and the reader copies from; neither may share memory with the other.</summary>
    private sealed class Vectors<T>(ValueGetter<VBuffer<T>> source, int size, Func<int> currentSlot) : ColumnBuffer
    {
        private readonly VBuffer<T>[] _values = new VBuffer<T>[size];

        public override Delegate Getter => (ValueGetter<VBuffer<T>>)((ref VBuffer<T> value) => _values[currentSlot()].CopyTo(ref value));

        public override void Capture(int slot) => source(ref _values[slot]);
    }
}
