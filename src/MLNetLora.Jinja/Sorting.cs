namespace MLNetLora.Jinja;

/// <summary>Sorts as Python does: stable. .NET's own sorting would wrap a template's error in one of its own.</summary>
internal static class Sorting
{
    /// <summary>The elements in order.</summary>
    public static List<T> Sort<T>(IReadOnlyList<T> items, Comparison<T> compare, Work work)
    {
        work.Charge(items.Count);
        T[] from = [.. items];
        T[] to = new T[from.Length];
        for (int width = 1; width < from.Length; width *= 2)
        {
            for (int left = 0; left < from.Length; left += 2 * width)
            {
                int middle = Math.Min(left + width, from.Length);
                int right = Math.Min(left + (2 * width), from.Length);
                (int a, int b) = (left, middle);
                for (int i = left; i < right; i++)
                {
                    to[i] = a < middle && (b >= right || compare(from[a], from[b]) <= 0) ? from[a++] : from[b++];
                }
            }
            (from, to) = (to, from);
        }
        return [.. from];
    }
}
